import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkImage } from '../../src/formats/qcow2/index.js';
import { patch, patterned, qemuCheck, qemuImg, temporaryDirectory } from './support.js';

const MIB = 1024 * 1024;
/** Where qemu-img convert puts things: refcount table, refcount block, L1, L2, data. */
const BLOCK = 2 * 65536;
const L1 = 3 * 65536;
const L2 = 4 * 65536;
const DATA = 5 * 65536;
const COPIED = 2n ** 63n;

async function converted(...options: readonly string[]): Promise<string> {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'raw'), patterned(2 * MIB));
  const path = join(directory, 'a.qcow2');
  await qemuImg('convert', '-O', 'qcow2', ...options, join(directory, 'raw'), path);
  return path;
}

describe('checkImage', () => {
  it.each([[[]], [['-c']], [['-c', '-o', 'compression_type=zstd']]])(
    'finds nothing wrong with what qemu-img %j writes',
    async (options) => {
      const path = await converted(...options);
      const check = await checkImage(path);
      expect(check).toMatchObject({ corruptions: 0, leaks: 0, problems: [] });
      const theirs = await qemuCheck(path);
      expect(check.compressedClusters).toBe(theirs['compressed-clusters'] ?? 0);
      expect(check.dataClusters + check.compressedClusters).toBe(theirs['allocated-clusters']);
    },
  );

  it.each([
    ['a refcount of zero', BLOCK + 10, 'u32', 0x00000001],
    ['a refcount too high', BLOCK + 10, 'u32', 0x00020001],
    ['a cluster used twice', L2 + 8, 'u64', COPIED + BigInt(DATA)],
    ['a data cluster that is the L1 table', L2, 'u64', COPIED + BigInt(L1)],
    ['a lost data cluster', L2, 'u64', 0n],
    ['a data cluster outside', L2, 'u64', COPIED + 2n ** 40n],
    ['a lost L2 table', L1, 'u64', 0n],
    ['an L2 table outside', L1, 'u64', COPIED + 2n ** 40n],
    ['reserved bits in an L1 entry', L1, 'u64', COPIED + 2n ** 57n + BigInt(L2)],
    ['reserved bits in an L2 entry', L2, 'u64', COPIED + 2n ** 57n + BigInt(DATA)],
    ['a refcount block outside', 65536, 'u64', 2n ** 40n],
    ['no refcount block', 65536, 'u64', 0n],
  ] as const)('finds what QEMU finds: %s', async (_what, at, kind, value) => {
    const path = await converted();
    await patch(path, at, kind, value);
    const ours = await checkImage(path);
    const theirs = await qemuCheck(path);
    expect(ours.problems.length).toBeGreaterThan(0);
    expect(ours.corruptions > 0).toBe(((theirs.corruptions as number | undefined) ?? 0) > 0);
    expect(ours.leaks > 0 || ours.corruptions > 0).toBe(true);
  });

  it('lists at most a hundred problems and counts all', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'a.qcow2');
    await writeFile(join(directory, 'raw'), Buffer.alloc(20 * MIB, 1));
    await qemuImg('convert', '-O', 'qcow2', join(directory, 'raw'), path);
    await patch(path, 65536, 'u64', 0n);
    const check = await checkImage(path);
    expect(check.problems.length).toBe(100);
    expect(check.corruptions).toBeGreaterThan(300);
  });
});
