import type { Box, StartExecOptions } from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { BoundedOutput, collectBounded, type KeptOutput } from '../../base/bounded-output.js';
import { exitCodeOf } from '../../wire/execution.js';
import type { JsonObject } from '../../wire/json.js';
import type { LogEncoding } from '../../wire/log.js';

interface WaitedOptions extends StartExecOptions {
  readonly input: string | undefined;
  readonly maxOutputBytes: number;
  readonly encoding: LogEncoding;
  readonly signal: AbortSignal;
}

/** Runs a command to its end, and gives how it ended and a bounded part of what it wrote. It ends when the call does. */
export async function runToEnd(
  box: Box,
  argv: readonly string[],
  { input, maxOutputBytes, encoding, ...options }: WaitedOptions,
): Promise<JsonObject> {
  const { signal } = options;
  // On a terminal, too, the command is to meet the end of its stdin: nobody types there.
  const stdin = input !== undefined || Boolean(options.tty);
  await using execution = await box.startExec(argv, { ...options, stdin });
  const stdout = new BoundedOutput(maxOutputBytes);
  const stderr = new BoundedOutput(maxOutputBytes);
  const feed = async (): Promise<void> => {
    if (input) await execution.stdin?.write(input);
    await execution.stdin?.end();
  };
  // A command that does not read all of its stdin is no failure.
  feed().catch(() => undefined);
  try {
    const all = Promise.all([
      execution.wait(),
      collectBounded(execution.stdout, stdout),
      collectBounded(execution.stderr, stderr),
    ]);
    const [exit] = await abortable(all, signal);
    const [out, err] = [stdout.kept(), stderr.kept()];
    return {
      execution_id: execution.id,
      exit_code: exitCodeOf(exit) ?? -1,
      signal: exit.signal,
      timed_out: exit.timedOut,
      duration_ms: Math.round(exit.durationMs),
      encoding,
      stdout: shown(out, encoding),
      stderr: shown(err, encoding),
      stdout_bytes: out.bytes,
      stderr_bytes: err.bytes,
      stdout_cut_bytes: out.cutBytes,
      stderr_cut_bytes: err.cutBytes,
    };
  } catch (error) {
    await execution.kill().catch(() => undefined);
    throw error;
  }
}

const shown = ({ text, raw }: KeptOutput, encoding: LogEncoding): string =>
  encoding === 'utf8' ? text : raw.toString('base64');
