import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createOverlay, openChain, readHeader } from '../../src/formats/qcow2/index.js';
import { qemuImg, qemuInfo, qemuIo, temporaryDirectory } from './support.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe('createOverlay', () => {
  it.each([512, 10 * MIB, 8 * GIB, 1024 * GIB, 4096 * GIB])(
    'makes a clean image of %d bytes',
    async (size) => {
      const path = join(await temporaryDirectory(), 'a.qcow2');
      await createOverlay({ path, virtualSizeBytes: size, durable: true });
      await qemuImg('check', path);
      expect(await qemuInfo(path)).toMatchObject({ 'virtual-size': size, format: 'qcow2' });
      expect((await readHeader(path)).virtualSizeBytes).toBe(size);
      expect((await stat(path)).blocks * 512).toBeLessThanOrEqual(16 * 1024);
    },
  );

  it('names its backing file and format as QEMU does', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'top.qcow2');
    await createOverlay({ path: join(directory, 'base.qcow2'), virtualSizeBytes: GIB });
    await createOverlay({
      path,
      virtualSizeBytes: 2 * GIB,
      backing: { name: 'base.qcow2', format: 'qcow2' },
    });
    expect(await qemuInfo(path)).toMatchObject({
      'backing-filename': 'base.qcow2',
      'backing-filename-format': 'qcow2',
    });
    await qemuIo(path, 'qcow2', 'write -P 5 1500M 1M', 'read -P 5 1500M 1M', 'read -P 0 0 1M');
    await qemuImg('check', path);
    await using chain = await openChain({ directory, top: 'top.qcow2' });
    expect(chain.depth).toBe(2);
    expect(chain.virtualSizeBytes).toBe(2 * GIB);
    expect(chain.allocatedBytes).toBeGreaterThan(MIB);
  });

  it('takes a write at the end of the largest disk', async () => {
    const path = join(await temporaryDirectory(), 'a.qcow2');
    await createOverlay({ path, virtualSizeBytes: 4096 * GIB });
    await qemuIo(path, 'qcow2', 'write -P 9 4095G 64k');
    await qemuImg('check', path);
  });

  it.each(['../a', 'a/b', '/etc/passwd', 'nbd:host', 'json:{}', '', '..', '.hidden', 'a\0b'])(
    'refuses the backing name %j',
    async (name) => {
      const directory = await temporaryDirectory();
      const made = createOverlay({
        path: join(directory, 'a.qcow2'),
        virtualSizeBytes: MIB,
        backing: { name, format: 'raw' },
      });
      await expect(made).rejects.toMatchObject({ code: 'invalid_argument' });
      expect(await readdir(directory)).toEqual([]);
    },
  );

  it.each([0, -512, 1000, 4096 * GIB + 512, Number.NaN])('refuses %d bytes', async (virtualSizeBytes) => {
    const path = join(await temporaryDirectory(), 'a.qcow2');
    await expect(createOverlay({ path, virtualSizeBytes })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
  });

  it('never overwrites', async () => {
    const path = join(await temporaryDirectory(), 'a.qcow2');
    await writeFile(path, 'precious');
    await expect(createOverlay({ path, virtualSizeBytes: MIB })).rejects.toMatchObject({
      code: 'storage_error',
    });
    expect((await stat(path)).size).toBe(8);
  });

  it('takes at most a millisecond, and an eighth of what qemu-img takes', async () => {
    const directory = await temporaryDirectory();
    await createOverlay({ path: join(directory, 'base'), virtualSizeBytes: GIB });
    const timed = async (task: (i: number) => Promise<unknown>, times: number): Promise<number> => {
      const took: number[] = [];
      for (let i = 0; i < times; i += 1) {
        const start = performance.now();
        await task(i);
        took.push(performance.now() - start);
      }
      return took.sort((a, b) => a - b)[times >> 1] ?? Number.POSITIVE_INFINITY;
    };
    const backing = { name: 'base', format: 'qcow2' } as const;
    const ours = await timed(
      (i) => createOverlay({ path: join(directory, `o${i}`), virtualSizeBytes: GIB, backing }),
      101,
    );
    const create = ['create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2'];
    const theirs = await timed((i) => qemuImg(...create, join(directory, `q${i}`)), 5);
    expect(ours).toBeLessThan(1);
    expect(ours).toBeLessThan(theirs / 8);
  });
});
