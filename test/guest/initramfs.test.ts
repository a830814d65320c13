import { execFileSync, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeCpio } from '../../src/guest/cpio.js';
import { buildInitramfs } from '../../src/guest/initramfs.js';
import { findKernel } from '../../src/guest/kernel.js';
import { findOnDemandModules } from '../../src/guest/on-demand.js';

/** A 64-bit ELF object with nothing but a section `.modinfo`. */
function moduleFile(depends: string, aliases: readonly string[] = []): Buffer {
  const more = aliases.map((alias) => `alias=${alias}\0`).join('');
  const info = Buffer.from(`license=GPL\0${more}depends=${depends}\0name=x\0`);
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

  const build = async () =>
    (await buildInitramfs({ kernelDirectory: directory, agentPath: join(directory, 'agent') })).content;

  it('lists modules after those they need, without built-in ones', async () => {
    const { version, modules: found } = await findKernel(directory);
    expect(version).toBe('6.1.0-1');
    const names = found.map(({ name }) => name);
    expect([...names].sort()).toEqual([
      'failover',
      'net_failover',
      'virtio',
      'virtio_blk',
      'virtio_console',
      'virtio_net',
      'virtio_pci',
      'virtio_ring',
      'virtio_rng',
    ]);
    expect(names.indexOf('virtio_ring')).toBeLessThan(names.indexOf('virtio_pci'));
    expect(names.indexOf('failover')).toBeLessThan(names.indexOf('net_failover'));
    expect(names.indexOf('net_failover')).toBeLessThan(names.indexOf('virtio_net'));
  });

  it('lists what is loaded on demand by every name the kernel asks for, in order', async () => {
    const folder = join(modules(), 'kernel/net/netfilter');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'nf-tables.ko'), moduleFile('nfnetlink', ['nfnetlink-subsys-10']));
    await writeFile(join(folder, 'nfnetlink.ko'), moduleFile('', ['net-pf-16-proto-12', 'pci:v0000*']));
    await writeFile(join(modules(), 'kernel/drivers/fuse.ko.gz'), gzipSync(moduleFile('', ['fs-fuse'])));
    const { modules: found, index } = await findOnDemandModules(directory);
    expect(found.map(({ name }) => name)).toEqual(['fuse', 'nfnetlink', 'nf_tables']);
    expect(index.trimEnd().split('\n')).toEqual([
      'fuse fuse',
      'fs_fuse fuse',
      'nfnetlink nfnetlink',
      'net_pf_16_proto_12 nfnetlink',
      'nf_tables nfnetlink nf_tables',
      'nfnetlink_subsys_10 nfnetlink nf_tables',
    ]);
  });

  it('is the same for the same input, and readable by cpio tools', async () => {
    const [one, two] = [await build(), await build()];
    expect(two.equals(one)).toBe(true);
    const listed = spawnSync('sh', ['-c', 'exec busybox cpio -t'], { input: one });
    expect(String(listed.stdout).split('\n')).toEqual(
      expect.arrayContaining(['init', 'dev/console', 'etc/cryobox/modules', 'modules/virtio_net.ko']),
    );
    await writeFile(join(directory, 'agent'), 'another');
    expect((await build()).equals(one)).toBe(false);
  });

  it('pads names and content to four bytes', () => {
    const entry = { type: 'file', path: 'abc', mode: 0o644, content: Buffer.from('12345') } as const;
    const bytes = Buffer.concat([...encodeCpio([entry])]);
    expect(bytes.length % 4).toBe(0);
    expect(bytes.indexOf('12345') % 4).toBe(0);
    expect(bytes.toString('latin1', 0, 14)).toBe('07070100000001');
  });

  const file = (name: string) => join(modules(), `kernel/drivers/${name}`);

  it.each([
    ['gz', (content: Buffer) => gzipSync(content)],
    ['xz', (content: Buffer) => execFileSync('xz', ['-c'], { input: content })],
    ['zst', (content: Buffer) => execFileSync('zstd', ['-qc'], { input: content })],
  ])('unpacks modules packed as .ko.%s', async (ending, pack) => {
    const plain = await build();
    for (const name of ['virtio_net', 'net_failover', 'virtio']) {
      await writeFile(file(`${name}.ko.${ending}`), pack(await readFile(file(`${name}.ko`))));
      await rm(file(`${name}.ko`));
    }
    expect((await build()).equals(plain)).toBe(true);
  });

  it('says which tool is missing, and that a packed module is broken', async () => {
    const whole = execFileSync('xz', ['-c'], { input: await readFile(file('failover.ko')) });
    await rm(file('failover.ko'));
    await writeFile(file('failover.ko.xz'), whole.subarray(0, -20));
    await expect(build()).rejects.toMatchObject({
      code: 'config_error',
      message: expect.stringMatching(/failover\.ko\.xz cannot be unpacked/),
    });
    await writeFile(file('failover.ko.xz'), whole);
    const path = process.env.PATH;
    process.env.PATH = directory;
    try {
      await expect(build()).rejects.toMatchObject({
        code: 'config_error',
        message: expect.stringContaining('the program xz is not installed'),
        hint: expect.stringContaining('apt-get install xz-utils'),
      });
    } finally {
      process.env.PATH = path;
    }
  });

  it('says what is missing', async () => {
    await rm(join(modules(), 'kernel/drivers/failover.ko'));
    await expect(build()).rejects.toMatchObject({
      code: 'config_error',
      message: expect.stringContaining('no module failover, which module net_failover needs'),
    });
    await writeFile(join(modules(), 'kernel/drivers/failover.ko'), 'compressed');
    await expect(build()).rejects.toThrow(/failover\.ko is no usable kernel module/);
    await writeFile(join(modules(), 'kernel/drivers/failover.ko'), moduleFile('').subarray(0, 100));
    await expect(build()).rejects.toThrow(/failover\.ko is no usable kernel module: it is cut off/);
    await rm(join(directory, 'boot/vmlinuz-6.1.0-1'));
    await expect(build()).rejects.toThrow(/there is no boot\/vmlinuz-\*/);
  });
});
