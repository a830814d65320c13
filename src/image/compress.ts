import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { filterThrough } from './filter.js';

/** Whether the program zstd is installed; Node 20 has no zstd of its own. */
export async function hasZstd(): Promise<boolean> {
  return await promisify(execFile)('zstd', ['--version'], { timeout: 10_000 }).then(
    () => true,
    () => false,
  );
}

/** Compresses with the lowest level and all cores: a third of the size at the speed of the disk. */
export function zstdCompress(source: AsyncIterable<Buffer>, signal?: AbortSignal): AsyncIterable<Buffer> {
  return filterThrough('zstd', ['-1', '--threads=0', '--stdout', '--quiet'], source, signal);
}
