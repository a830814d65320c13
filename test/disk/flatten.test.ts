import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createOverlay,
  flatten,
  flattenStream,
  openChain,
} from '../../src/formats/qcow2/index.js';
import { patterned, qemuImg, qemuIo, temporaryDirectory } from './support.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** A chain of four: raw base, compressed layer, overlays of which the last is larger and zeroes some data. */
async function mixedChain(): Promise<string> {
  const directory = await temporaryDirectory();
  const at = (name: string): string => join(directory, name);
  await writeFile(at('base'), patterned(6 * MIB + 512));
  const options = ['-c', '-o', 'backing_file=base,backing_fmt=raw,compression_type=zstd'];
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', at('plain'));
  await qemuIo(at('plain'), 'qcow2', 'write -P 8 1M 300k');
  await qemuImg('convert', '-O', 'qcow2', ...options, at('plain'), at('packed'));
  await createOverlay({
    path: at('middle'),
    virtualSizeBytes: 2 * GIB,
    backing: { name: 'packed', format: 'qcow2' },
  });
  await qemuIo(at('middle'), 'qcow2', 'write -P 9 1030M 2M', 'write -P 0 1032M 1M', 'write -z 2M 128k');
  await createOverlay({
    path: at('top'),
    virtualSizeBytes: 2 * GIB,
    backing: { name: 'middle', format: 'qcow2' },
  });
  await qemuIo(at('top'), 'qcow2', 'write -P 7 3M 70k', 'write -P 6 2047M 1M');
  return directory;
}

describe('flatten', () => {
  it('writes the same disk as a clean, sparse image', async () => {
    const directory = await mixedChain();
    const path = join(directory, 'flat');
    const seen: number[] = [];
    await using chain = await openChain({ directory, top: 'top' });
    const onProgress = ({ doneBytes }: { doneBytes: number }): void => {
      seen.push(doneBytes);
    };
    const { sizeBytes } = await flatten({ chain, path, durable: true, onProgress });
    await qemuImg('check', path);
    expect(await qemuImg('compare', path, join(directory, 'top'))).toContain('Images are identical');
    const file = await stat(path);
    expect(file.size).toBe(sizeBytes);
    // A fifth of the pattern and the zeros written through the guest are not there.
    expect(file.blocks * 512).toBeLessThan(9 * MIB);
    expect(seen.at(-1)).toBe(sizeBytes);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it('streams the very bytes it writes, each time', async () => {
    const directory = await mixedChain();
    const path = join(directory, 'flat');
    await using chain = await openChain({ directory, top: 'top' });
    await flatten({ chain, path });
    const image = await flattenStream(chain);
    for (let i = 0; i < 2; i += 1) {
      const chunks: Buffer[] = [];
      for await (const chunk of image.open()) chunks.push(Buffer.from(chunk));
      await writeFile(join(directory, 'streamed'), Buffer.concat(chunks));
      expect((await stat(path)).size).toBe(image.sizeBytes);
      const cmp = await openChain({ directory, top: 'streamed', topFormat: 'raw' });
      const flat = await openChain({ directory, top: 'flat', topFormat: 'raw' });
      expect((await cmp.read(0, image.sizeBytes)).equals(await flat.read(0, image.sizeBytes))).toBe(true);
      await cmp.close();
      await flat.close();
    }
  });

  it('leaves room for QEMU to write on', async () => {
    const directory = await mixedChain();
    const path = join(directory, 'flat');
    await using chain = await openChain({ directory, top: 'top' });
    await flatten({ chain, path });
    await qemuIo(path, 'qcow2', 'write -P 1 500M 20M', 'read -P 1 500M 20M', 'read -P 7 3M 70k');
    await qemuImg('check', path);
    expect(await checkImage(path)).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  it.each([512, 64 * 1024, 700 * MIB])('handles an empty disk of %d bytes', async (virtualSizeBytes) => {
    const directory = await temporaryDirectory();
    await createOverlay({ path: join(directory, 'a'), virtualSizeBytes });
    await using chain = await openChain({ directory, top: 'a' });
    const path = join(directory, 'flat');
    await flatten({ chain, path });
    await qemuImg('check', path);
    expect(await qemuImg('compare', path, join(directory, 'a'))).toContain('identical');
  });

  it('leaves nothing when it is cancelled or fails, and never overwrites', async () => {
    const directory = await mixedChain();
    const before = await readdir(directory);
    const path = join(directory, 'flat');
    await using chain = await openChain({ directory, top: 'top' });
    const cancel = new AbortController();
    const cancelled = flatten({ chain, path, signal: cancel.signal, onProgress: () => cancel.abort() });
    await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' });
    await expect(flatten({ chain, path: join(directory, 'no/where') })).rejects.toMatchObject({
      code: 'storage_error',
    });
    await expect(flatten({ chain, path: join(directory, 'top') })).rejects.toMatchObject({
      code: 'storage_error',
    });
    expect(await readdir(directory)).toEqual(before);
    await qemuImg('check', join(directory, 'top'));
  });
});
