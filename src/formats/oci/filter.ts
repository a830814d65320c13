import { pipeline } from 'node:stream/promises';
import { throwIfCancelled } from '../../base/abort.js';
import { startProcess } from '../../base/process/index.js';

/**
 * Runs bytes through a program. Fails with the source's own error when the source fails, with `config_error` when the
 * program is not installed, `resource_exhausted` when it cannot be started, `cancelled`, else with what the program wrote
 * to its error output. Ended early, it ends the program.
 */
export async function* filterThrough(
  command: string,
  args: readonly string[],
  source: AsyncIterable<Buffer>,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  await using child = await startProcess(command, { args, stdin: 'pipe', stdout: 'pipe', signal });
  let sourceFailure: unknown;
  const watched = watch(source, (error) => {
    sourceFailure = error;
  });
  // What fails here shows as a failure of the source or as the exit code.
  pipeline(watched, child.stdin).catch(() => undefined);
  yield* child.stdout as AsyncIterable<Buffer>;
  const end = await child.closed;
  if (sourceFailure !== undefined) throw sourceFailure;
  throwIfCancelled(signal, `the run of ${command}`);
  if (end.code !== 0) throw new Error(end.stderr || `${command} ended with ${end.signal ?? end.code}`);
}

/** Passes a source on and tells of its failure. */
async function* watch(
  source: AsyncIterable<Buffer>,
  onFailure: (error: unknown) => void,
): AsyncGenerator<Buffer> {
  try {
    yield* source;
  } catch (error) {
    onFailure(error);
    throw error;
  }
}
