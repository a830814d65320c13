import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { DiskChain } from '../../src/formats/qcow2/index.js';
import { qemuImg } from '../support/qemu-tools.js';

export { qemuCheck, qemuImg, qemuIo } from '../support/qemu-tools.js';

/** A directory that is removed after the test. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-disk-'));
  made.push(directory);
  return directory;
}
const made: string[] = [];
afterEach(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true, force: true });
});

/** What qemu-img says of an image. */
export async function qemuInfo(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await qemuImg('info', '--output=json', path)) as Record<string, unknown>;
}

/** Overwrites a big-endian number in a file. */
export async function patch(
  path: string,
  at: number,
  kind: 'u32' | 'u64',
  value: number | bigint,
): Promise<void> {
  const bytes = Buffer.alloc(kind === 'u32' ? 4 : 8);
  if (kind === 'u32') bytes.writeUInt32BE(Number(value));
  else bytes.writeBigUInt64BE(BigInt(value));
  const handle = await open(path, 'r+');
  try {
    await handle.write(bytes, 0, bytes.length, at);
  } finally {
    await handle.close();
  }
}

/** Bytes that compress somewhat, with whole clusters of zeros among them. */
export function patterned(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let at = 0; at + 4 <= length; at += 4) {
    if ((at >> 16) % 5 === 3) continue;
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes.writeUInt32LE(state & 0x0f0f_ff00, at);
  }
  return bytes;
}

/** All guest bytes of a small disk. */
export async function guestBytes(chain: DiskChain): Promise<Buffer> {
  return await chain.read(0, chain.virtualSizeBytes);
}

/** qemu-img's map in the shape of ours: no depth where nothing is allocated. */
export async function qemuMap(path: string, format = 'qcow2'): Promise<unknown[]> {
  const ranges = JSON.parse(await qemuImg('map', '-f', format, '--output=json', path)) as {
    start: number;
    length: number;
    depth: number;
    present: boolean;
    data: boolean;
    offset?: number;
  }[];
  return ranges.map(({ start, length, depth, present, data, offset }) => ({
    start,
    length,
    data,
    depth: present ? depth : null,
    offset: data ? (offset ?? null) : null,
  }));
}
