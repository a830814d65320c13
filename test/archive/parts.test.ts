import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeSeal, encodeSeal, joinCrc, updateCrc } from '../../src/formats/archive/seal.js';
import { decodeTarHeader, encodeTarHeader } from '../../src/formats/archive/tar.js';
import { encodeRawFrame, startCompress } from '../../src/formats/archive/zstd.js';
import { temporaryDirectory } from '../disk/support.js';
import { tool } from './support.js';

describe('the seal', () => {
  it('joins the checksums of two pieces', () => {
    const bytes = fc.uint8Array({ maxLength: 5000 });
    fc.assert(
      fc.property(bytes, bytes, (first, second) => {
        const joined = joinCrc(updateCrc(0, first), updateCrc(0, second), second.length);
        expect(joined).toBe(crc32(Buffer.concat([first, second])));
      }),
    );
  });

  it('is itself or nothing', () => {
    const seal = encodeSeal(0xdeadbeef);
    expect(decodeSeal(seal)).toBe(0xdeadbeef);
    for (let at = 0; at < 16; at += 1) {
      const bad = Buffer.from(seal);
      bad[at] = (bad[at] ?? 0) ^ 1;
      expect(decodeSeal(bad)).toBeUndefined();
    }
  });
});

describe('tar headers', () => {
  it('come back as they were, small and large', () => {
    for (const sizeBytes of [0, 1, 8 ** 11 - 1, 8 ** 11, 2 ** 45]) {
      const header = decodeTarHeader(encodeTarHeader('disk.qcow2', sizeBytes));
      expect(header).toEqual({ name: 'disk.qcow2', storedBytes: sizeBytes, sizeBytes });
    }
  });
});

describe('zstd', () => {
  it.each([1, 511, 131_072, 131_073, 400_000])('unpacks our raw frame of %d bytes', async (length) => {
    const directory = await temporaryDirectory();
    const bytes = Buffer.alloc(length, 'raw frame ');
    await writeFile(join(directory, 'a.zst'), encodeRawFrame(bytes));
    await tool(directory, 'zstd', '-dq', 'a.zst');
    expect((await readFile(join(directory, 'a'))).equals(bytes)).toBe(true);
  });

  it('says when the disk is full', async () => {
    const full = await open('/dev/full', 'r+');
    try {
      const zstd = await startCompress(1, full.fd);
      await zstd.write(Buffer.alloc(100)).catch(() => undefined);
      await expect(zstd.end()).rejects.toMatchObject({ code: 'disk_full' });
    } finally {
      await full.close();
    }
  });
});
