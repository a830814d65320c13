import type { Command, ExecBytesOptions, ExecOptions, ExecResult } from '../api/index.js';
import type { OutputListener } from '../base/collect-output.js';
import { signalName } from '../base/signal-name.js';
import { CryoboxError, messageOf } from '../errors.js';

/** What `exec` gives, by its `encoding`. */
export type AnyResult = ExecResult<string> | ExecResult<Buffer>;

/** What is left of the options of `exec` for the way a command is run. */
export interface ByteRunOptions extends Omit<ExecOptions, 'check' | 'encoding' | 'onStdout' | 'onStderr'> {
  readonly listeners: { readonly stdout?: OutputListener; readonly stderr?: OutputListener };
}

/** The words of a command: a line is run by a shell. Throws `invalid_argument` for what is no command. */
export function wordsOf(command: Command): readonly string[] {
  if (typeof command === 'string') {
    if (command.trim() === '') throw new CryoboxError('invalid_argument', 'the command is empty');
    return ['sh', '-c', command];
  }
  if (!Array.isArray(command) || !command.every((word) => typeof word === 'string')) {
    throw new CryoboxError('invalid_argument', 'a command is a line for a shell or a list of words', {
      hint: "Write exec('ls -la /root') or exec(['ls', '-la', '/root']).",
    });
  }
  return command;
}

/** `Box.exec` over a way to run words and get bytes. */
export async function execute(
  command: Command,
  options: ExecOptions | ExecBytesOptions,
  run: (argv: readonly string[], options: ByteRunOptions) => Promise<ExecResult<Buffer>>,
): Promise<AnyResult> {
  const { check = false, encoding = 'utf8', onStdout, onStderr, ...rest } = options;
  if (encoding !== 'utf8' && encoding !== 'buffer') {
    throw new CryoboxError(
      'invalid_argument',
      `encoding is ${JSON.stringify(encoding)}, expected utf8 or buffer`,
      {
        hint: "Leave encoding out for text, or write 'buffer' and decode the bytes.",
      },
    );
  }
  const isText = encoding === 'utf8';
  const listeners = {
    ...(onStdout && { stdout: listener('onStdout', onStdout as (chunk: unknown) => unknown, isText) }),
    ...(onStderr && { stderr: listener('onStderr', onStderr as (chunk: unknown) => unknown, isText) }),
  };
  const result = await run(wordsOf(command), { ...rest, listeners });
  if (check && (result.exitCode !== 0 || result.timedOut)) throw failed(command, result);
  if (!isText) return result;
  return { ...result, stdout: result.stdout.toString(), stderr: result.stderr.toString() };
}

function listener(name: string, callback: (chunk: unknown) => unknown, isText: boolean): OutputListener {
  if (typeof callback !== 'function') {
    throw new CryoboxError('invalid_argument', `${name} is no function`);
  }
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const give = async (chunk: string | Uint8Array): Promise<void> => {
    if (chunk.length === 0) return;
    try {
      await callback(chunk);
    } catch (error) {
      throw new CryoboxError('cancelled', `${name} threw: ${messageOf(error)}`, {
        cause: error,
        hint: 'The command was ended; the error of the callback is the cause.',
      });
    }
  };
  return {
    take: (chunk) => give(isText ? decoder.decode(chunk, { stream: true }) : chunk),
    end: () => give(isText ? decoder.decode() : ''),
  };
}

/** Of the output in a message, and in details: enough for the last lines. */
const shownCharacters = 2000;
const keptCharacters = 64 * 1024;

function failed(command: Command, result: ExecResult<Buffer>): CryoboxError {
  const { exitCode, signal, timedOut } = result;
  const line = typeof command === 'string' ? command : command.join(' ');
  const stdout = result.stdout.toString().slice(-keptCharacters);
  const stderr = result.stderr.toString().slice(-keptCharacters);
  const last = (stderr.trim() || stdout.trim()).slice(-shownCharacters);
  return new CryoboxError(
    'execution_failed',
    `${line.slice(0, 200)}: ${howEnded(result)}${last === '' ? '' : `:\n${last}`}`,
    {
      hint: 'Leave `check` out to get the result whatever it is.',
      details: { exitCode, signal, timedOut, stdout, stderr },
    },
  );
}

function howEnded({ exitCode, signal, timedOut }: ExecResult<Buffer>): string {
  if (timedOut) return 'ran into its time limit';
  return signal === null
    ? `ended with ${exitCode}`
    : `was ended by ${signalName(signal) ?? `signal ${signal}`}`;
}
