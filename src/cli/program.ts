import { Command as Commander, CommanderError } from 'commander';
import { packageVersion } from '../base/version.js';
import { isCryoboxError } from '../errors.js';
import { addConnectionOptions, type Runner } from './command.js';
import { commandGroups } from './commands/index.js';
import { Context, type OpenRuntime, type Streams } from './context.js';
import { describeFailure, exitCodeOf, exitCodes } from './failure.js';
import { Interrupts, type SignalSource } from './interrupts.js';

/** The world a command line runs in. */
export interface CliOptions {
  readonly streams: Streams;
  readonly signals: SignalSource;
  readonly openRuntime: OpenRuntime;
  /** Ends the process at once, for a user who does not want to wait for the clean-up. */
  readonly exit: (code: number) => void;
}

/** Runs a command line (without node and script) and resolves with its exit code. */
export async function runCli(argv: readonly string[], options: CliOptions): Promise<number> {
  let exitCode = 0;
  const program = buildProgram(options.streams, async (connection, task) => {
    using interrupts = new Interrupts(options.signals, options.exit);
    const { streams, openRuntime } = options;
    const context = new Context({ connection, streams, interrupts, openRuntime });
    try {
      exitCode = (await task(context)) ?? 0;
    } catch (error) {
      exitCode = interrupts.exitCode ?? exitCodeOf(error);
      if (interrupts.exitCode === undefined) streams.stderr.write(describeFailure(error));
    } finally {
      await context.close().catch((error: unknown) => {
        streams.stderr.write(describeFailure(error));
        exitCode ||= exitCodes.failed;
      });
    }
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (isCryoboxError(error)) {
      options.streams.stderr.write(describeFailure(error));
      return exitCodes.failed;
    }
    if (!(error instanceof CommanderError)) throw error;
    // Help and version end with 0; a wrong command line is a failure of ours, not of a command in a box.
    return error.exitCode === 0 ? 0 : exitCodes.failed;
  }
  return exitCode;
}

/** The whole command line, whose help can be read; nothing is run by it. */
export function commandLine(): Commander {
  return buildProgram(process, async () => undefined);
}

function buildProgram(streams: Streams, runner: Runner): Commander {
  const program = new Commander('cryobox')
    .description('Small virtual machines that can be frozen, forked and rewound.')
    .version(packageVersion())
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: false })
    .addHelpText('after', exitCodeHelp);
  addConnectionOptions(program);
  for (const { heading, commands } of commandGroups) {
    program.commandsGroup(heading);
    for (const command of commands) command.register(program, runner);
  }
  settle(program, streams);
  return program;
}

/** Commander copies these only to commands added afterwards; here they go to all. */
function settle(command: Commander, streams: Streams): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => {
      streams.stdout.write(text);
    },
    writeErr: (text) => {
      streams.stderr.write(text);
    },
  });
  for (const child of command.commands) settle(child, streams);
}

const exitCodeHelp = `
Exit codes: that of the command in the box; 124 its time limit; 125 Cryobox itself failed; 126 the command
cannot be executed; 127 it does not exist; 128 + N ended by signal N.`;
