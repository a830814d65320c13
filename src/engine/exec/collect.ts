import type { ExecOptions, ExecResult, Execution } from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { collectOutput } from '../../base/collect-output.js';
import { errnoOf, isCryoboxError } from '../../errors.js';

/** Waits for an execution and all its output. When that fails, the command is killed. */
export async function collect(
  execution: Execution,
  stdin: ExecOptions['stdin'],
  signal: AbortSignal | undefined,
): Promise<ExecResult> {
  try {
    const work = Promise.all([
      execution.wait(),
      collectOutput('stdout', execution.stdout),
      collectOutput('stderr', execution.stderr),
      feed(execution, stdin),
    ]);
    const [exit, stdout, stderr] = await abortable(work, signal);
    return { ...exit, stdout, stderr };
  } catch (error) {
    await execution.kill().catch(() => undefined);
    throw error;
  }
}

async function feed(execution: Execution, stdin: ExecOptions['stdin']): Promise<void> {
  const writer = execution.stdin;
  if (!writer || stdin === undefined) return;
  try {
    if (typeof stdin === 'string' || stdin instanceof Uint8Array) await writer.write(stdin);
    else for await (const chunk of stdin) await writer.write(chunk);
    await writer.end();
  } catch (error) {
    // A command need not read what it is given, and may end meanwhile.
    if (isCryoboxError(error, 'stopped') || errnoOf(error) === 'ERR_STREAM_DESTROYED') return;
    throw error;
  }
}
