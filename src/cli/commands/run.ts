import { type Box, mainExecution } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { boxOptionSpecs, splitOperands, toCreateOptions } from '../box-options.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { refusedBoxOptions } from '../refused.js';
import { runSession, terminalSize } from '../session.js';
import { flag, optional, rest, value } from '../specs.js';
import { parseDurationMs } from '../values.js';

const operands = {
  image: optional('image', 'reference of an image; none with --template'),
  command: rest('command', "command with its arguments (default: the image's)"),
};

export const create = createCommand({
  name: 'create',
  summary: 'make a box, start it and print its id; a command runs in it at every start',
  args: operands,
  options: { ...boxOptionSpecs, tty: flag('-t, --tty', 'give the main command a terminal') },
  refused: refusedBoxOptions,
  longHelpOnly: true,
  passThrough: true,
  async handler(context, args, options) {
    const { image, command: cmd } = splitOperands(args, options.template);
    const main = { ...(cmd.length > 0 && { cmd }), ...(options.tty && { tty: true }) };
    const box = await createBox(context, image, { ...options, tty: undefined, ...main });
    await context.stdout.line(box.id);
  },
});

export const run = createCommand({
  name: 'run',
  summary: 'run a command in a new box',
  args: operands,
  options: {
    ...boxOptionSpecs,
    interactive: flag('-i, --interactive', 'pass stdin to the command'),
    tty: flag('-t, --tty', 'give the command a terminal'),
    rm: flag('--rm', 'remove the box when the command has ended'),
    detach: flag(
      '-d, --detach',
      'leave the command running, as the main command of the box, and print the id of the box',
    ),
    timeout: value('--timeout <duration>', 'kill the command after this time', parseDurationMs),
  },
  refused: refusedBoxOptions,
  longHelpOnly: true,
  passThrough: true,
  async handler(context, args, options) {
    if (options.detach && options.rm) {
      throw new CryoboxError('invalid_argument', '--detach and --rm exclude each other');
    }
    const { image, command } = splitOperands(args, options.template);
    // Its command is run once, and not again by later starts of the box.
    const own = { ...options, entrypoint: undefined, tty: undefined };
    const main = options.detach ? mainOf(command, options) : undefined;
    const box = await createBox(context, image, { ...own, ...main }, options.rm);
    if (main) {
      await context.stderr.line(`execution ${mainExecution}`);
      await context.stdout.line(box.id);
      return 0;
    }
    if (options.detach) return await detached(context, box, command, options);
    try {
      return await attached(context, box, command, options);
    } finally {
      // Not with the context's signal: Ctrl-C must leave nothing behind.
      if (options.rm) await box.remove({ force: true });
      else await box.stop();
    }
  },
});

interface CommandOptions {
  readonly interactive: boolean;
  readonly tty: boolean;
  readonly timeout: number | undefined;
  readonly entrypoint: string | undefined;
}

async function createBox(
  context: Context,
  image: string | undefined,
  options: Parameters<typeof toCreateOptions>[1] & {
    readonly cmd?: readonly string[];
    readonly tty?: boolean;
  },
  ephemeral = false,
): Promise<Box> {
  const runtime = await context.runtime();
  await fetchImage(context, image, options);
  return await context.withProgress((onProgress) =>
    runtime.create({
      ...toCreateOptions(image, options),
      cmd: options.cmd,
      tty: options.tty,
      // Closing the runtime removes what is not detached, should our own removal fail.
      detach: !ephemeral,
      onProgress,
      signal: context.signal,
    }),
  );
}

/** Brings the image first where the command line says how; else making the box does. */
async function fetchImage(
  context: Context,
  image: string | undefined,
  { pull, platform }: Pick<Parameters<typeof toCreateOptions>[1], 'pull' | 'platform'>,
): Promise<void> {
  if (image === undefined || (pull === undefined && platform === undefined)) return;
  const { images } = await context.runtime();
  await context.withProgress((onProgress) =>
    images.pull(image, { platform, pullPolicy: pull ?? 'missing', onProgress, signal: context.signal }),
  );
}

async function attached(
  context: Context,
  box: Box,
  command: readonly string[],
  { interactive, tty, timeout, entrypoint }: CommandOptions,
): Promise<number> {
  const execution = await box.startExec(await fullCommand(context, box, command, entrypoint), {
    stdin: interactive,
    tty: tty && terminalSize(context.streams),
    timeoutMs: timeout,
    signal: context.signal,
  });
  await using _ = execution;
  return await runSession(context, execution, { interactive, tty });
}

/** What is left running is the main command of its box: it has logs and an exit code, and runs at every start. */
function mainOf(
  command: readonly string[],
  { entrypoint, tty, timeout }: CommandOptions,
):
  | { readonly entrypoint?: string | undefined; readonly cmd?: readonly string[]; readonly tty: boolean }
  | undefined {
  // A main command has no time limit, and the image's alone is run once: most images name a shell.
  if (timeout !== undefined || (command.length === 0 && entrypoint === undefined)) return undefined;
  return { entrypoint, ...(command.length > 0 && { cmd: command }), tty };
}

/** With a command, that one is left running; without one the box alone is. */
async function detached(
  context: Context,
  box: Box,
  command: readonly string[],
  { tty, timeout, entrypoint: program }: CommandOptions,
): Promise<number> {
  const { entrypoint, cmd } = await box.info({ signal: context.signal });
  if (program !== undefined || command.length + entrypoint.length + cmd.length > 0) {
    const argv = await fullCommand(context, box, command, program);
    const execution = await box.startExec(argv, { tty, timeoutMs: timeout, signal: context.signal });
    await execution.detach();
    // On stderr, so that `$(cryobox run -d ...)` is the id of the box alone.
    await context.stderr.line(`execution ${execution.id}`);
  }
  await context.stdout.line(box.id);
  return 0;
}

/** Entrypoint and command, as the image's configuration means them (OCI image-spec, config.md, "Entrypoint"). */
async function fullCommand(
  context: Context,
  box: Box,
  command: readonly string[],
  program: string | undefined,
): Promise<readonly string[]> {
  if (program !== undefined) return [program, ...command];
  const { entrypoint, cmd } = await box.info({ signal: context.signal });
  const argv = [...entrypoint, ...(command.length > 0 ? command : cmd)];
  if (argv.length === 0) {
    throw new CryoboxError('invalid_argument', 'No command was given, and the image names none', {
      hint: 'Write the command after the image, such as `cryobox run IMAGE -- sh`.',
    });
  }
  return argv;
}
