import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import {
  isOurs,
  type MemberSource,
  type ReadArchive,
  readArchive,
  writeArchive,
} from '../../src/formats/archive/index.js';
import { layerFiles } from './disk-files.js';
import { failureOf, TestEngine } from './support.js';

const home = new TestEngine();
const elsewhere = new TestEngine();

/** 8 MB of random bytes, a counter that goes on, and the bytes' hash when it is asked for. */
const program = `
import os, time, hashlib
data = os.urandom(8_000_000)
open('/root/hash', 'w').write(hashlib.sha256(data).hexdigest())
n = 0
while True:
    n += 1
    open('/tmp/n.new', 'w').write(str(n))
    os.rename('/tmp/n.new', '/tmp/n')
    if os.path.exists('/root/check'):
        open('/root/checked.new', 'w').write(hashlib.sha256(data).hexdigest())
        os.rename('/root/checked.new', '/root/checked')
        os.remove('/root/check')
    time.sleep(0.05)
`;

const text = async (box: Box, script: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await box.exec(['sh', '-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
};

async function started(name: string): Promise<Box> {
  const box = await home.runtime.create({ image: 'debian-python', name, detach: true });
  await box.files.write('/root/program.py', program);
  await box.startExec(['python3', '/root/program.py']);
  await text(box, 'until [ -e /tmp/n ]; do sleep 0.05; done');
  return box;
}

/** What is the same only in the same processes: pid and start time; throws unless they go on and have their memory. */
const processOf = (box: Box): Promise<string> =>
  text(
    box,
    `n=$(cat /tmp/n); until [ $(cat /tmp/n) -gt $((n + 2)) ]; do sleep 0.05; done
    rm -f /root/checked; touch /root/check; until [ -e /root/checked ]; do sleep 0.05; done
    cmp /root/hash /root/checked; cut -d" " -f1,22 /proc/$(pidof python3)/stat`,
  );

/** What tells boxes apart. */
const identityOf = async (box: Box): Promise<string[]> =>
  (
    await text(
      box,
      'cat /etc/machine-id; hostname; cat /sys/class/net/eth0/address; cat /proc/sys/kernel/random/uuid',
    )
  ).split('\n');

describe('a box exported with memory', () => {
  it('goes on in another home, as a box of its own', { timeout: 240_000 }, async () => {
    const source = await started('source');
    const before = await processOf(source);
    const first = await identityOf(source);
    const { run } = await source.info();
    const n = Number(await text(source, 'cat /tmp/n'));
    await source.pause();
    const directory = await mkdtemp(join(home.home, 'out'));
    const archive = await source.export(directory, { memory: true });
    expect((await source.info()).status).toBe('paused');

    const box = await elsewhere.runtime.import(archive, { name: 'copy', memory: true });
    expect(await box.info()).toMatchObject({ name: 'copy', status: 'paused', pid: null, failure: null });
    expect((await box.info()).storage.memoryBytes).toBeGreaterThan(8_000_000);
    expect(await box.resume()).toMatchObject({ pager: 'mmap', resumed: true });
    expect(await processOf(box)).toBe(before);
    expect(Number(await text(box, 'cat /tmp/n'))).toBeLessThan(n + 1000);
    const second = await identityOf(box);
    for (const [i, value] of second.entries()) expect(value).not.toBe(first[i]);
    expect(second[1]).toBe('copy');
    expect(await text(box, 'cat /etc/hosts')).toContain('copy');
    expect(Math.abs(Number(await text(box, 'date +%s')) * 1000 - Date.now())).toBeLessThan(10_000);
    const { run: newRun } = await box.info();
    expect(newRun).not.toBe(run);

    // From here on it is like any other: its own memory, its own identity.
    await box.pause();
    await box.resume();
    expect(await processOf(box)).toBe(before);
    expect((await identityOf(box)).slice(0, 3)).toEqual(second.slice(0, 3));
    expect((await box.info()).run).toBe(newRun);
    expect(await elsewhere.runtime.verify()).toMatchObject({ ok: true, problems: [] });
    expect((await source.info()).status).toBe('paused');
    await source.remove({ force: true });
    await box.remove({ force: true });
  });

  it('may run: it goes on, and what is exported is one moment of it', { timeout: 120_000 }, async () => {
    const source = await home.runtime.create({ image: 'tiny', name: 'runs' });
    await source.startExec([
      'sh',
      '-c',
      'read value < /proc/sys/kernel/random/uuid; while true; do echo $value $((n+=1)) > /tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.05; done',
    ]);
    await text(source, 'until [ -e /tmp/n ]; do sleep 0.05; done');
    const wordOf = (box: Box): Promise<string> =>
      text(
        box,
        'n=$(cat /tmp/n); until [ "$n" != "$(cat /tmp/n)" ]; do sleep 0.05; done; cut -d" " -f1 /tmp/n',
      );
    const before = await wordOf(source);
    const { run, pid } = await source.info();
    const stream = await source.exportStream({ memory: true, compress: false });
    expect(await source.info()).toMatchObject({ status: 'running', run, pid });
    const box = await elsewhere.runtime.import(stream, { memory: true });
    expect(await wordOf(box)).toBe(before);
    expect(await wordOf(source)).toBe(before);
    // Somebody else's identity is never taken over, whichever way the memory goes on.
    const again = await elsewhere.runtime.import(await box.exportStream({ memory: true }), { memory: true });
    await again.snapshot.create('paused', { memory: true });
    const [child] = await again.fork({ count: 1 });
    if (!child || !('box' in child)) throw new Error('no child');
    await again.snapshot.restore('paused', { live: true });
    const all = [source, box, again, child.box];
    for (const it of all) expect(await wordOf(it)).toBe(before);
    const identities = await Promise.all(all.map(identityOf));
    for (const i of [0, 1, 2, 3]) expect(new Set(identities.map((it) => it[i])).size).toBe(all.length);
    for (const it of all) await it.remove({ force: true });
    await elsewhere.runtime.gc();
  });

  it('must have some', async () => {
    const box = await home.runtime.create({ image: 'tiny' });
    await box.stop();
    await home.runtime.gc();
    const before = await layerFiles(home.home);
    const failure = await failureOf(box.export(join(home.home, 'none.boxsnap'), { memory: true }));
    expect(failure).toMatchObject({ code: 'invalid_state', hint: expect.stringContaining('Start the box') });
    await home.runtime.gc();
    expect(await layerFiles(home.home)).toEqual(before);
    const disks = await box.export(join(home.home, 'disks.boxsnap'));
    expect(await failureOf(home.runtime.import(disks, { memory: true }))).toMatchObject({
      code: 'invalid_argument',
      message: 'the archive holds no memory',
    });
    await box.remove();
  });
});

describe('an archive with memory', () => {
  let directory: string;
  let archive: string;
  let parts: ReadArchive;

  beforeAll(async () => {
    const box = await home.runtime.create({ image: 'tiny', name: 'archived' });
    await text(box, 'echo kept > /root/file; sync');
    await box.pause();
    directory = await mkdtemp(join(home.home, 'archives-'));
    archive = await box.export(join(directory, 'good.boxsnap'), { memory: true });
    await mkdir(join(directory, 'parts'));
    parts = await readArchive({ source: archive, directory: join(directory, 'parts') });
    await box.remove();
  }, 60_000);

  async function kept(): Promise<string[]> {
    await elsewhere.runtime.gc();
    return await layerFiles(elsewhere.home);
  }

  async function refused(path: string, code: string, memory: boolean | undefined = true): Promise<string> {
    const before = await kept();
    const failure = await failureOf(elsewhere.runtime.import(path, { name: 'never', memory }));
    expect(failure, failure.message).toMatchObject({ code });
    expect(await elsewhere.runtime.get('never')).toBeNull();
    expect(await kept()).toEqual(before);
    return failure.message;
  }

  /** The archive with other facts or members, well-formed. */
  async function remade(change: {
    readonly memory?: Readonly<Record<string, string | number>>;
    readonly memoryMiB?: number;
    readonly replace?: Readonly<Record<string, MemberSource | null>>;
  }): Promise<string> {
    if (!isOurs(parts.manifest)) throw new Error('not ours');
    const { shape, options, image, memory } = parts.manifest;
    const members = parts.members.flatMap(({ name, path, sizeBytes }): MemberSource[] => {
      const other = change.replace?.[name];
      if (other === null) return [];
      return [other ?? { name, sizeBytes, open: () => createReadStream(path) }];
    });
    const path = join(directory, 'remade.boxsnap');
    const facts = {
      image,
      options,
      shape: { ...shape, memoryMiB: change.memoryMiB ?? shape.memoryMiB },
      memory: { ...memory, ...change.memory },
    };
    await writeArchive({ path, members, facts, compressionLevel: 1 });
    return path;
  }

  const bytes = (name: string, content: Buffer): MemberSource => ({
    name,
    sizeBytes: content.length,
    async *open() {
      yield content;
    },
  });

  it('holds the pages that are not zero, and says what it needs', async () => {
    expect(parts.manifest).toMatchObject({
      memory: {
        accelerator: expect.stringMatching(/kvm|tcg/),
        qemuVersion: expect.any(String),
        machineType: expect.stringContaining('q35'),
        cpuModel: expect.any(String),
        kernelVersion: expect.any(String),
        assetsKey: expect.any(String),
        devices: expect.any(Number),
      },
    });
    const names = parts.members.map(({ name }) => name);
    expect(names.slice(2)).toEqual(['device.state', 'memory.pages', 'memory.map']);
    const { size } = await stat(join(directory, 'parts', 'memory.pages'));
    expect(size).toBeLessThan(256 * 2 ** 20);
    const pages = await readFile(join(directory, 'parts', 'memory.pages'));
    const zero = Buffer.alloc(4096);
    for (let at = 0; at < pages.length; at += 4096)
      if (pages.compare(zero, 0, 4096, at, at + 4096) === 0) throw new Error(`page at ${at} is zero`);
  });

  it('is taken as it was asked for only', async () => {
    expect(await failureOf(elsewhere.runtime.import(archive))).toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('say whether to take it'),
      hint: expect.stringContaining('trust'),
    });
    const before = await kept();
    const box = await elsewhere.runtime.import(archive, { memory: false });
    expect(await box.info()).toMatchObject({ status: 'stopped', storage: { memoryBytes: 0 } });
    expect(await text(box, 'cat /root/file')).toBe('kept');
    await box.remove({ force: true });
    expect(await kept()).toEqual(before);
  });

  it('of another installation comes in, cannot go on, and starts from its disks', async () => {
    for (const [fact, value, words] of [
      ['qemuVersion', '0.1', 'QEMU version 0.1'],
      ['machineType', 'pc-q35-1.0', 'machine type pc-q35-1.0'],
      ['devices', 1, 'list of devices 1'],
    ] as const) {
      const box = await elsewhere.runtime.import(await remade({ memory: { [fact]: value } }), {
        memory: true,
      });
      const failure = await failureOf(box.resume());
      expect(failure).toMatchObject({
        code: 'invalid_state',
        hint: expect.stringContaining('discardMemory'),
      });
      expect(failure.message).toContain(words);
      expect((await box.info()).status).toBe('paused');
      if (fact === 'qemuVersion') {
        await box.start({ discardMemory: true });
        expect(await text(box, 'cat /root/file')).toBe('kept');
      }
      await box.remove({ force: true });
    }
  });

  it('with a device state that QEMU does not take leaves the box paused', { timeout: 60_000 }, async () => {
    const state = await readFile(join(directory, 'parts', 'device.state'));
    const bad = Buffer.from(state);
    bad.fill(0xff, 200, 4000);
    const path = await remade({ replace: { 'device.state': bytes('device.state', bad) } });
    const box = await elsewhere.runtime.import(path, { memory: true });
    expect(await failureOf(box.resume())).toMatchObject({ code: 'machine_failed' });
    expect((await box.info()).status).toBe('paused');
    await box.start({ discardMemory: true });
    expect(await text(box, 'cat /root/file')).toBe('kept');
    await box.remove({ force: true });
  });

  it('is refused when a byte of it changed, or it was cut short', { timeout: 120_000 }, async () => {
    const good = await readFile(archive);
    const path = join(directory, 'bad.boxsnap');
    for (const part of [0.02, 0.6, 0.999]) {
      const bad = Buffer.from(good);
      const at = Math.floor(good.length * part);
      bad[at] = (bad[at] ?? 0) ^ 0x10;
      await writeFile(path, bad);
      await refused(path, 'archive_invalid');
    }
    for (const part of [0.5, 0.99]) {
      await writeFile(path, good);
      await truncate(path, Math.floor(good.length * part));
      await refused(path, 'archive_invalid');
    }
  });

  it('is refused when its parts do not make a memory', { timeout: 120_000 }, async () => {
    const map = await readFile(join(directory, 'parts', 'memory.map'));
    const changed = Buffer.from(map);
    changed[map.length - 40] = (changed[map.length - 40] ?? 0) ^ 1;
    const page = Buffer.alloc(4096, 1);
    const pages = bytes('memory.pages', page);
    const large = (name: string, sizeMiB: number): MemberSource =>
      bytes(name, Buffer.alloc(sizeMiB * 2 ** 20, 1));
    // What the manifest shows is refused before anything is unpacked.
    const noDisks = { 'guest-rootfs.qcow2': null, 'disk.qcow2': null, 'memory.pages': pages };
    for (const [change, words] of [
      [{ memory: { machineType: 'q35,accel=kvm' }, replace: noDisks }, 'machineType'],
      [{ memory: { surprise: 'x' }, replace: noDisks }, 'surprise'],
      [{ replace: { ...noDisks, 'memory.map': null } }, 'no memory.map'],
      [{ replace: { ...noDisks, 'memory.map': large('memory.map', 4) } }, 'are allowed'],
      [{ replace: { ...noDisks, 'device.state': large('device.state', 33) } }, 'are allowed'],
      [{ memoryMiB: 768, replace: { 'memory.pages': pages } }, 'bytes of RAM'],
      [{ replace: { 'memory.pages': pages, 'memory.map': bytes('memory.map', changed) } }, 'checksum'],
      [{ replace: { 'memory.pages': pages } }, 'bytes of data'],
      [{ replace: { 'memory.pages': pages, 'device.state': bytes('device.state', page) } }, 'device state'],
    ] as const) {
      expect(await refused(await remade(change), 'archive_invalid')).toContain(words);
    }
  });

  it('that unpacks to far more than its size is refused', { timeout: 60_000 }, async () => {
    const chunk = Buffer.alloc(2 ** 20, 0x41);
    const bomb: MemberSource = {
      name: 'memory.pages',
      sizeBytes: 500 * 2 ** 20,
      async *open() {
        for (let i = 0; i < 500; i += 1) yield chunk;
      },
    };
    const small = ['disk.qcow2', 'guest-rootfs.qcow2'].map((name) => [name, null] as const);
    const path = await remade({ replace: { ...Object.fromEntries(small), 'memory.pages': bomb } });
    expect(await refused(path, 'archive_invalid')).toContain('times its size');
    expect(await refused(await remade({ memoryMiB: 99_999 }), 'invalid_argument')).toContain('memoryMiB');
  });

  it('is given up when the call is cancelled', async () => {
    const before = await kept();
    for (const delayMs of [5, 60, 200, 400]) {
      const signal = AbortSignal.timeout(delayMs);
      const made = await elsewhere.runtime.import(archive, { memory: true, signal }).catch((error) => error);
      if (made instanceof Error) expect(made).toMatchObject({ code: 'cancelled' });
      else await (made as Box).remove();
    }
    expect(await kept()).toEqual(before);
  });
});
