import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeCpio } from '../../src/guest/cpio.js';
import { buildInitramfs } from '../../src/guest/initramfs.js';
import { findKernel } from '../../src/guest/kernel.js';

/** A 64-bit ELF object with nothing but a section `.modinfo`. */
function moduleFile(depends: string): Buffer {
  const info = Buffer.from(`license=GPL\0depends=${depends}\0name=x\0`);
  const names = Buffer.from('\0.modinfo\0.shstrtab\0');
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  const tableAt = 64 + info.length + names.length;
  header.writeBigUInt64LE(BigInt(tableAt), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(2, 0x3e);
  const section = (name: number, from: number, bytes: number) => {
    const entry = Buffer.alloc(64);
    entry.writeUInt32LE(name, 0);
    entry.writeBigUInt64LE(BigInt(from), 0x18);
    entry.writeBigUInt64LE(BigInt(bytes), 0x20);
    return entry;
  };
  const table = [section(0, 0, 0), section(1, 64, info.length), section(10, 64 + info.length, names.length)];
  return Buffer.concat([header, info, names, ...table]);
}

describe('the initramfs', () => {
  let directory: string;
  const modules = () => join(directory, 'lib/modules/6.1.0-1');

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cryobox-initramfs-'));
    await mkdir(join(directory, 'boot'));
    await writeFile(join(directory, 'boot/vmlinuz-6.1.0-1'), 'kernel');
    await mkdir(join(modules(), 'kernel/drivers'), { recursive: true });
    await writeFile(join(modules(), 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\nkernel/lib/crc16.ko\n');
    const dependencies = {
      virtio: '',
      virtio_ring: '',
      virtio_pci: 'virtio-ring,virtio',
      virtio_blk: 'virtio,virtio_ring',
      failover: '',
      net_failover: 'failover',
      virtio_net: 'net_failover,virtio,crc16',
      virtio_console: 'virtio',
      'virtio-rng': 'virtio',
    };
    for (const [name, depends] of Object.entries(dependencies)) {
      await writeFile(join(modules(), `kernel/drivers/${name}.ko`), moduleFile(depends));
    }
    await writeFile(join(directory, 'agent'), 'agent');
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  const build = (name: string) =>
    buildInitramfs({
      kernelDirectory: directory,
      agentPath: join(directory, 'agent'),
      outputPath: join(directory, name),
    });

  it('lists modules after those they need, without built-in ones', async () => {
    const { version, modulePaths } = await findKernel(directory);
    expect(version).toBe('6.1.0-1');
    const names = modulePaths.map((path) => path.replace(/.*\/(.*)\.ko/, '$1'));
    expect([...names].sort()).toEqual([
      'failover',
      'net_failover',
      'virtio',
      'virtio-rng',
      'virtio_blk',
      'virtio_console',
      'virtio_net',
      'virtio_pci',
      'virtio_ring',
    ]);
    expect(names.indexOf('virtio_ring')).toBeLessThan(names.indexOf('virtio_pci'));
    expect(names.indexOf('failover')).toBeLessThan(names.indexOf('net_failover'));
    expect(names.indexOf('net_failover')).toBeLessThan(names.indexOf('virtio_net'));
  });

  it('is the same for the same input, and readable by cpio tools', async () => {
    const [one, two] = [await build('one'), await build('two')];
    expect(two.sha256).toBe(one.sha256);
    expect((await readFile(two.path)).equals(await readFile(one.path))).toBe(true);
    const listed = spawnSync('sh', ['-c', 'exec busybox cpio -t'], { input: await readFile(one.path) });
    expect(String(listed.stdout).split('\n')).toEqual(
      expect.arrayContaining(['init', 'dev/console', 'etc/cryobox/modules', 'modules/virtio_net.ko']),
    );
    await writeFile(join(directory, 'agent'), 'another');
    expect((await build('three')).sha256).not.toBe(one.sha256);
  });

  it('pads names and content to four bytes', () => {
    const entry = { type: 'file', path: 'abc', mode: 0o644, content: Buffer.from('12345') } as const;
    const bytes = Buffer.concat([...encodeCpio([entry])]);
    expect(bytes.length % 4).toBe(0);
    expect(bytes.indexOf('12345') % 4).toBe(0);
    expect(bytes.toString('latin1', 0, 14)).toBe('07070100000001');
  });

  it('says what is missing', async () => {
    await rm(join(modules(), 'kernel/drivers/failover.ko'));
    await expect(build('x')).rejects.toMatchObject({
      code: 'config_error',
      message: expect.stringContaining('no module failover, which module net_failover needs'),
    });
    await writeFile(join(modules(), 'kernel/drivers/failover.ko'), 'compressed');
    await expect(build('x')).rejects.toThrow(/failover\.ko is no usable kernel module/);
    await writeFile(join(modules(), 'kernel/drivers/failover.ko'), moduleFile('').subarray(0, 100));
    await expect(build('x')).rejects.toThrow(/failover\.ko is no usable kernel module: it is cut off/);
    await rm(join(directory, 'boot/vmlinuz-6.1.0-1'));
    await expect(build('x')).rejects.toThrow(/there is no boot\/vmlinuz-\*/);
  });
});
