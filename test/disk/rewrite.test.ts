import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createOverlay,
  growVirtualSize,
  readHeader,
  setBacking,
} from '../../src/formats/qcow2/index.js';
import { qemuImg, qemuInfo, qemuIo, temporaryDirectory } from './support.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe('setBacking', () => {
  it('moves an overlay to another base, or to none', async () => {
    const directory = await temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const size = { virtualSizeBytes: GIB };
    await createOverlay({ path: at('one'), ...size });
    await createOverlay({ path: at('another-with-a-longer-name'), ...size });
    await qemuIo(at('one'), 'qcow2', 'write -P 1 0 1M');
    await qemuIo(at('another-with-a-longer-name'), 'qcow2', 'write -P 2 0 1M');
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'one', '-F', 'qcow2', at('top'));
    await qemuIo(at('top'), 'qcow2', 'write -P 3 64k 64k', 'read -P 1 0 64k');
    await setBacking(at('top'), { name: 'another-with-a-longer-name', format: 'qcow2' }, { durable: true });
    await qemuIo(at('top'), 'qcow2', 'read -P 2 0 64k', 'read -P 3 64k 64k');
    await qemuImg('check', at('top'));
    await setBacking(at('top'), null);
    await qemuIo(at('top'), 'qcow2', 'read -P 0 0 64k', 'read -P 3 64k 64k');
    expect(await qemuInfo(at('top'))).not.toHaveProperty('backing-filename');
    expect((await readHeader(at('top'))).backing).toBeNull();
    await expect(setBacking(at('top'), { name: '../x', format: 'raw' })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
  });
});

describe('growVirtualSize', () => {
  it('enlarges images of ours and of QEMU in place', async () => {
    const directory = await temporaryDirectory();
    const ours = join(directory, 'ours');
    const theirs = join(directory, 'theirs');
    await createOverlay({ path: ours, virtualSizeBytes: 100 * MIB });
    await qemuImg('create', '-q', '-f', 'qcow2', theirs, '100M');
    for (const path of [ours, theirs]) {
      await qemuIo(path, 'qcow2', 'write -P 1 50M 1M');
      await growVirtualSize(path, 900 * GIB, { durable: true });
      await qemuIo(path, 'qcow2', 'read -P 1 50M 1M', 'read -P 0 899G 1M', 'write -P 2 800G 1M');
      await qemuImg('check', path);
      expect(await checkImage(path)).toMatchObject({ corruptions: 0, leaks: 0 });
    }
  });

  it('refuses to shrink, and sizes that cannot be', async () => {
    const path = join(await temporaryDirectory(), 'a');
    await createOverlay({ path, virtualSizeBytes: 100 * MIB });
    for (const size of [50 * MIB, 100 * MIB + 1, 0]) {
      await expect(growVirtualSize(path, size)).rejects.toMatchObject({ code: 'invalid_argument' });
    }
  });
});
