import type { ExecResult } from '../api/index.js';
import { collectOutput } from '../base/collect-output.js';
import { runWithStdin } from '../base/feed.js';
import { atItsEnd } from '../base/lost-output.js';
import type { ByteRunOptions } from '../surface/exec.js';
import { RemoteExecution } from './execution.js';
import type { Transport } from './transport.js';

/**
 * `Box.exec` over one connection: the command ends when the connection or the call does. Throws `output_lost` after its
 * end when some of its output never came.
 */
export async function runCommand(
  transport: Transport,
  boxPath: string,
  argv: readonly string[],
  options: ByteRunOptions,
): Promise<ExecResult<Buffer>> {
  const { stdin, listeners, ...given } = options;
  const start = {
    kind: 'run',
    argv,
    options: given,
    stdin: stdin !== undefined,
    killOnDisconnect: true,
  } as const;
  return await runWithStdin(stdin, async () => {
    const execution = await RemoteExecution.open(transport, boxPath, start, given.signal);
    return { writer: execution.stdin, result: (failed) => outcomeOf(execution, failed, options) };
  });
}

/** Waits for the end of a command and all its output; the command ends when that fails. */
async function outcomeOf(
  execution: RemoteExecution,
  failed: Promise<never>,
  { signal, listeners }: Pick<ByteRunOptions, 'signal' | 'listeners'>,
): Promise<ExecResult<Buffer>> {
  const abort = (): void => execution.abandon();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    const all = Promise.all([
      collectOutput('stdout', execution.stdout, listeners.stdout),
      collectOutput('stderr', execution.stderr, listeners.stderr),
      execution.wait(),
    ]);
    const outcome = all.catch(async (error: unknown) => {
      throw await atItsEnd(error, execution);
    });
    const [stdout, stderr, exit] = await Promise.race([outcome, failed]);
    return { ...exit, stdout, stderr };
  } catch (error) {
    execution.abandon();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
