import { runProcess } from '../../base/process/index.js';
import { isCryoboxError } from '../../errors.js';
import { filterThrough } from './filter.js';

/** A program says its version at once. */
const probeTimeoutMs = 10_000;

/** Whether the program zstd is installed; Node 20 has no zstd of its own. Throws `resource_exhausted`, `timeout`. */
export async function hasZstd(): Promise<boolean> {
  try {
    return (await runProcess('zstd', { args: ['--version'], timeoutMs: probeTimeoutMs })).code === 0;
  } catch (error) {
    if (isCryoboxError(error, 'config_error')) return false;
    throw error;
  }
}

/** Compresses with the lowest level and all cores: a third of the size at the speed of the disk. */
export function zstdCompress(source: AsyncIterable<Buffer>, signal?: AbortSignal): AsyncIterable<Buffer> {
  return filterThrough('zstd', ['-1', '--threads=0', '--stdout', '--quiet'], source, signal);
}
