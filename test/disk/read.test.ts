import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createOverlay, openChain } from '../../src/formats/qcow2/index.js';
import { guestBytes, patch, patterned, qemuImg, qemuIo, qemuMap, temporaryDirectory } from './support.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

describe('reading', () => {
  it.each([
    ['deflate', ['-c']],
    ['zstd', ['-c', '-o', 'compression_type=zstd']],
    ['no', []],
  ] as const)('gives what is in an image with %s compression', async (_name, options) => {
    const directory = await temporaryDirectory();
    const raw = join(directory, 'raw');
    await writeFile(raw, patterned(5 * MIB + 512));
    await qemuImg('convert', '-O', 'qcow2', ...options, raw, join(directory, 'a.qcow2'));
    await using chain = await openChain({ directory, top: 'a.qcow2' });
    const expected = patterned(5 * MIB + 512);
    expect((await guestBytes(chain)).equals(expected)).toBe(true);
    const part = await chain.read(3 * MIB - 100, 5000);
    expect(part.equals(expected.subarray(3 * MIB - 100, 3 * MIB + 4900))).toBe(true);
    const kinds = new Set<string>();
    for await (const range of chain.mapRanges()) kinds.add(`${range.kind} ${range.compressedBytes !== null}`);
    expect(kinds.has('data true')).toBe(options.length > 0);
  });

  it('sees standard clusters, both kinds of zero clusters and holes as QEMU does', async () => {
    const directory = await temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    await createOverlay({ path: at('base'), virtualSizeBytes: GIB });
    await qemuIo(at('base'), 'qcow2', 'write -P 1 0 1M', 'write -P 2 600M 3M');
    await createOverlay({
      path: at('top'),
      virtualSizeBytes: GIB,
      backing: { name: 'base', format: 'qcow2' },
    });
    // `-z` on an allocated cluster keeps its place (zero, allocated); `-zu` gives it up (zero, plain).
    await qemuIo(at('top'), 'qcow2', 'write -P 3 64k 256k', 'write -z 64k 64k', 'write -z -u 601M 64k');
    await qemuIo(at('top'), 'qcow2', 'write -P 4 1000 1000', 'write -P 5 512M 100k');
    await qemuImg('convert', '-O', 'raw', at('top'), at('raw'));
    await using chain = await openChain({ directory, top: 'top' });
    await using raw = await openChain({ directory, top: 'raw', topFormat: 'raw' });
    for (const offset of [0, 510 * MIB, 600 * MIB]) {
      expect((await chain.read(offset, 8 * MIB)).equals(await raw.read(offset, 8 * MIB))).toBe(true);
    }
    const ours: unknown[] = [];
    for await (const { offset, length, kind, layer, hostOffset } of chain.mapRanges()) {
      ours.push({ start: offset, length, data: kind === 'data', depth: layer, offset: hostOffset });
    }
    expect(ours).toEqual(await qemuMap(at('top')));
  });

  it('reads raw bases, and layers of other sizes, as QEMU does', async () => {
    const directory = await temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    await writeFile(at('base'), patterned(3 * MIB + 1536));
    const middle = { name: 'base', format: 'raw' } as const;
    await createOverlay({ path: at('small'), virtualSizeBytes: MIB + 512, backing: middle });
    await qemuIo(at('small'), 'qcow2', 'write -P 7 1M 512');
    await createOverlay({
      path: at('large'),
      virtualSizeBytes: 4 * MIB,
      backing: { name: 'small', format: 'qcow2' },
    });
    await createOverlay({ path: at('whole'), virtualSizeBytes: 5 * MIB, backing: middle });
    for (const name of ['small', 'large', 'whole']) {
      await qemuImg('convert', '-O', 'raw', at(name), at('raw'));
      await using chain = await openChain({ directory, top: name });
      await using raw = await openChain({ directory, top: 'raw', topFormat: 'raw' });
      expect((await guestBytes(chain)).equals(await guestBytes(raw))).toBe(true);
    }
  });

  it('refuses what lies outside the disk', async () => {
    const directory = await temporaryDirectory();
    await createOverlay({ path: join(directory, 'a'), virtualSizeBytes: MIB });
    await using chain = await openChain({ directory, top: 'a' });
    for (const [offset, length] of [
      [0, MIB + 1],
      [-1, 1],
      [MIB, 1],
      [0.5, 1],
      [0, Number.NaN],
    ] as const) {
      await expect(chain.read(offset, length)).rejects.toMatchObject({ code: 'invalid_argument' });
    }
    expect((await chain.read(MIB, 0)).length).toBe(0);
  });
});

describe('damaged tables', () => {
  const L1 = 3 * 65536;

  async function readPatched(
    change: (path: string) => Promise<unknown>,
    options: readonly string[] = [],
  ): Promise<Buffer> {
    const directory = await temporaryDirectory();
    const path = join(directory, 'a');
    const raw = join(directory, 'raw');
    await writeFile(raw, patterned(MIB));
    await qemuImg('convert', '-O', 'qcow2', ...options, raw, path);
    await change(path);
    await using chain = await openChain({ directory, top: 'a' });
    return await chain.read(0, MIB);
  }

  it.each([
    ['an L2 table past the end', L1, 2n ** 40n],
    ['an unaligned L2 table', L1, 0x40200n],
    ['the header as L2 table', L1, 2n ** 63n],
    ['reserved bits in L1', L1, 2n ** 60n + 0x40000n],
    ['a cluster past the end', L1 + 65536, 2n ** 40n],
    ['an unaligned cluster', L1 + 65536, 0x50200n],
    ['reserved bits in L2', L1 + 65536, 2n ** 57n + 0x50000n],
    ['a compressed cluster past the end', L1 + 65536, 2n ** 62n + 2n ** 40n],
    ['a compressed cluster over the header', L1 + 65536, 2n ** 62n + 512n],
    ['a compressed cluster of no deflate data', L1 + 65536, 2n ** 62n + 0x10000n],
  ])('are refused: %s', async (_what, at, value) => {
    await expect(readPatched((path) => patch(path, at, 'u64', value))).rejects.toMatchObject({
      code: 'disk_image_invalid',
    });
  });

  it('are refused: a zstd cluster that is none', async () => {
    const damage = (path: string): Promise<void> => patch(path, 5 * 65536, 'u64', 0n);
    const read = readPatched(damage, ['-c', '-o', 'compression_type=zstd']);
    await expect(read).rejects.toMatchObject({ code: 'disk_image_invalid' });
  });

  it('are refused: a file cut short', async () => {
    await expect(readPatched((path) => truncate(path, 6 * 65536))).rejects.toMatchObject({
      code: 'disk_image_invalid',
    });
  });
});
