import { basename, dirname } from 'node:path';
import { decodeSparseBlock, decodeSparseHeader, type SparseRange } from '../../base/gnu-sparse.js';
import { startProcess } from '../../base/process/index.js';

const BLOCK_BYTES = 512;
/** Where a tar header says what kind of member it is. */
const TYPE_AT = 156;
/** Most stretches listened to: 12 MiB of map. A file in more pieces is read as a whole. */
const MAX_RANGES = 2 ** 19;
/** Finding the holes of a large file takes milliseconds. */
const LIMIT_MS = 10_000;

/**
 * Which parts of a sparse file hold data, in order; the rest is holes. Undefined when it cannot be told: then all of it
 * counts as data, which is right and slow. Node cannot ask the system for holes (`lseek` with SEEK_HOLE), GNU tar can: it
 * writes the map of a sparse file before its data, and is stopped there.
 */
export async function findDataRanges(path: string): Promise<readonly SparseRange[] | undefined> {
  const args = ['--format=gnu', '--sparse', '--hole-detection=seek', '-cf', '-', '-C', dirname(path), '--'];
  try {
    await using child = await startProcess('tar', {
      args: [...args, basename(path)],
      stdout: 'pipe',
      stderr: 'ignore',
      timeoutMs: LIMIT_MS,
      // Without TAR_OPTIONS, which could ask for anything.
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
    });
    return await readMap(child.stdout);
  } catch {
    return undefined;
  }
}

async function readMap(output: AsyncIterable<Buffer>): Promise<readonly SparseRange[] | undefined> {
  const ranges: SparseRange[] = [];
  let header = true;
  for await (const block of blocksOf(output)) {
    if (header && block[TYPE_AT] !== 'S'.charCodeAt(0)) return undefined;
    const map = header ? decodeSparseHeader(block) : decodeSparseBlock(block);
    header = false;
    ranges.push(...map.ranges);
    if (ranges.length > MAX_RANGES) return undefined;
    if (!map.more) return ranges;
  }
  return undefined;
}

async function* blocksOf(output: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of output) {
    rest = Buffer.concat([rest, chunk]);
    for (; rest.length >= BLOCK_BYTES; rest = rest.subarray(BLOCK_BYTES)) yield rest.subarray(0, BLOCK_BYTES);
  }
}
