import type { Box, ExitStatus, StartExecOptions } from '../api/index.js';
import { BoundedOutput, collectBounded, type KeptOutput } from '../base/bounded-output.js';
import { mcpLimits } from './options.js';
import type { ToolAnswer, ToolCall } from './tool.js';

/** How a command ended, and the part of its output that was kept. */
export interface CommandResult {
  readonly status: ExitStatus;
  readonly stdout: KeptOutput;
  readonly stderr: KeptOutput;
}

/** How often a command that runs is told of, in milliseconds. */
const progressMs = 1000;

/** Runs a command to its end, with bounded output; an abort kills it. */
export async function runCommand(
  box: Box,
  argv: readonly string[],
  options: StartExecOptions & { readonly input?: string | undefined },
  { signal, progress }: Pick<ToolCall, 'signal' | 'progress'>,
): Promise<CommandResult> {
  const { input, ...rest } = options;
  const stdout = new BoundedOutput(mcpLimits.outputBytes);
  const stderr = new BoundedOutput(mcpLimits.outputBytes);
  await using execution = await box.startExec(argv, { ...rest, stdin: input !== undefined, signal });
  const kill = (): void => {
    // It may have ended by itself; waiting for it tells.
    execution.kill().catch(() => undefined);
  };
  signal.addEventListener('abort', kill, { once: true });
  const started = performance.now();
  const ticking = setInterval(() => {
    const seconds = Math.round((performance.now() - started) / 1000);
    progress(seconds, `${seconds} s, ${stdout.bytes + stderr.bytes} bytes of output`);
  }, progressMs);
  try {
    const feed = async (): Promise<void> => {
      if (!execution.stdin || input === undefined) return;
      // A command that does not read all of it is no failure.
      await execution.stdin
        .write(input)
        .then(() => execution.stdin?.end())
        .catch(() => undefined);
    };
    const [status] = await Promise.all([
      execution.wait({ signal }),
      collectBounded(execution.stdout, stdout),
      collectBounded(execution.stderr, stderr),
      feed(),
    ]);
    return { status, stdout: stdout.kept(), stderr: stderr.kept() };
  } finally {
    clearInterval(ticking);
    signal.removeEventListener('abort', kill);
  }
}

/** How a command ended, in words. */
export function endOf({ exitCode, signal, timedOut, durationMs }: ExitStatus): string {
  const time = `after ${Math.round(durationMs)} ms`;
  if (timedOut) return `killed: its time was over ${time}`;
  return exitCode === null ? `ended by signal ${signal} ${time}` : `exit code ${exitCode} ${time}`;
}

/** A command's end and output for a model, and as data. */
export function commandAnswer({ status, stdout, stderr }: CommandResult): ToolAnswer {
  const text = [stdout.text, stderr.text && `stderr:\n${stderr.text}`, endOf(status)].filter(Boolean);
  return {
    text: text.join('\n'),
    data: { ...status, stdout: stdout.text, stderr: stderr.text, ...cut(stdout, stderr) },
  };
}

function cut(stdout: KeptOutput, stderr: KeptOutput): { cutBytes: { stdout: number; stderr: number } } {
  return { cutBytes: { stdout: stdout.cutBytes, stderr: stderr.cutBytes } };
}
