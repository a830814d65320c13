import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeTarHeader } from '../../src/formats/archive/tar.js';
import { tool } from './support.js';

const MAX_OCTAL = 8 ** 11 - 1;
const RANGES_IN_BLOCK = 21;

function writeNumber(block: Buffer, at: number, value: number): void {
  if (value <= MAX_OCTAL) {
    block.write(`${value.toString(8).padStart(11, '0')}\0`, at, 'latin1');
    return;
  }
  block[at] = 0x80;
  block.writeBigUInt64BE(BigInt(value), at + 4);
}

function seal(header: Buffer): Buffer {
  header.write('        ', 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

/** A member of GNU's sparse kind that stores nothing: `sizeBytes` of zeros, with `ranges` empty stretches at its end. */
function holes(name: string, sizeBytes: number, ranges: number): Buffer {
  const header = encodeTarHeader(name, 0);
  header.fill(0, 345);
  header.write('S', 156);
  header[482] = ranges > 0 ? 1 : 0;
  writeNumber(header, 483, sizeBytes);
  const blocks: Buffer[] = [seal(header)];
  for (let left = ranges; left > 0; left -= RANGES_IN_BLOCK) {
    const block = Buffer.alloc(512);
    for (let i = 0; i < Math.min(left, RANGES_IN_BLOCK); i += 1) {
      writeNumber(block, i * 24, sizeBytes);
      writeNumber(block, i * 24 + 12, 0);
    }
    if (left > RANGES_IN_BLOCK) block[504] = 1;
    blocks.push(block);
  }
  return Buffer.concat(blocks);
}

/** An archive in BoxLite's form whose disk is nothing but holes. Returns its path. */
export async function packHoles(
  directory: string,
  options: { readonly sizeBytes: number; readonly ranges?: number; readonly diskSizeGb?: number },
): Promise<string> {
  const manifest = Buffer.from(
    JSON.stringify({
      version: 3,
      box_options: { disk_size_gb: options.diskSizeGb ?? null },
      container_disk_checksum: `sha256:${'0'.repeat(64)}`,
    }),
  );
  const padding = Buffer.alloc((512 - (manifest.length % 512)) % 512);
  const disk = holes('disk.qcow2', options.sizeBytes, options.ranges ?? 0);
  const head = encodeTarHeader('manifest.json', manifest.length);
  await writeFile(
    join(directory, 'holes.tar'),
    Buffer.concat([head, manifest, padding, disk, Buffer.alloc(1024)]),
  );
  await tool(directory, 'zstd', '-qf', 'holes.tar', '-o', 'holes.boxlite');
  return join(directory, 'holes.boxlite');
}
