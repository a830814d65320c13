import type { ExecResult, Execution } from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { collectOutput } from '../../base/collect-output.js';
import { atItsEnd } from '../../base/lost-output.js';
import type { ByteRunOptions } from '../../surface/exec.js';

/**
 * Waits for an execution and all its output. When that fails, or `failed` rejects, the command is killed; when output was
 * lost, it goes on to its end, and `output_lost` is thrown then.
 */
export async function collect(
  execution: Execution,
  failed: Promise<never>,
  { signal, listeners }: Pick<ByteRunOptions, 'signal' | 'listeners'>,
): Promise<ExecResult<Buffer>> {
  try {
    const all = Promise.all([
      execution.wait(),
      collectOutput('stdout', execution.stdout, listeners.stdout),
      collectOutput('stderr', execution.stderr, listeners.stderr),
    ]);
    const work = all.catch(async (error: unknown) => {
      throw await atItsEnd(error, execution);
    });
    const [exit, stdout, stderr] = await abortable(Promise.race([work, failed]), signal);
    return { ...exit, stdout, stderr };
  } catch (error) {
    await execution.kill().catch(() => undefined);
    throw error;
  }
}
