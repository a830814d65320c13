import { stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Box, CreateOptions, VolumeMount } from '../../src/api/index.js';
import { openDatabase } from '../../src/store/index.js';
import { failureOf, TestEngine } from './support.js';

const engine = new TestEngine();

const output = async (box: Box, script: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await box.exec(['sh', '-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
};

/** A box of its own with volumes at /data or where they say. */
async function boxWith(
  volumes: readonly Partial<VolumeMount>[],
  more: Partial<CreateOptions> = {},
): Promise<Box> {
  const mounts = volumes.map((it) => ({ volume: 'data', guestPath: '/data', ...it }));
  return await engine.runtime.create({ image: 'tiny', volumes: mounts, ...more });
}

/** Where the disk of a volume is. */
async function fileOf(name: string): Promise<string> {
  const db = await openDatabase(join(engine.home, 'cryobox.db'));
  try {
    const { layer_id } = await db
      .selectFrom('volumes')
      .select('layer_id')
      .where('name', '=', name)
      .executeTakeFirstOrThrow();
    return join(engine.home, 'layers', layer_id);
  } finally {
    await db.destroy();
  }
}

it('keeps what is written over a stop, a removal without a sync, and in another box', async () => {
  const { runtime } = engine;
  {
    await using box = await boxWith([{ volume: 'kept' }]);
    await output(box, 'echo one > /data/one');
    await box.stop();
    await box.start();
    expect(await output(box, 'cat /data/one; echo two > /data/two; df -m /data | tail -1')).toMatch(
      /^one\n\/dev\/vdc +10\d{3} /,
    );
    expect((await box.info()).volumes).toEqual([{ volume: 'kept', guestPath: '/data', readOnly: false }]);
  }
  await using other = await boxWith([{ volume: 'kept', guestPath: '/srv/deep/down/' }]);
  expect(await output(other, 'cat /srv/deep/down/one /srv/deep/down/two')).toBe('one\ntwo');
  const info = await runtime.volumes.get('kept');
  expect(info).toMatchObject({ name: 'kept', sizeBytes: 10 * 1024 ** 3, boxes: [other.id] });
  expect(info?.usedBytes).toBeLessThan(16 * 1024 ** 2);
  expect(await runtime.volumes.get(info?.id ?? '')).toEqual(info);
});

it('has one writer or many readers, and says who has it', async () => {
  await using first = await boxWith([{ volume: 'shared' }], { name: 'first' });
  const second = await failureOf(boxWith([{ volume: 'shared' }]));
  expect(second).toMatchObject({ code: 'conflict' });
  expect(second.message).toContain(
    'volume "shared" is in use by box first, which is running and may write it',
  );
  expect((await failureOf(boxWith([{ volume: 'shared', readOnly: true }]))).code).toBe('conflict');
  expect(await engine.runtime.list()).toHaveLength(1);
  await first.pause();
  expect((await failureOf(boxWith([{ volume: 'shared', readOnly: true }]))).message).toContain('paused');
  await first.stop();

  await using second_ = await boxWith([{ volume: 'shared' }]);
  await second_.stop();
  const starts = await Promise.allSettled([first.start(), second_.start()]);
  expect(starts.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  await first.stop();
  await second_.stop();

  await using reader = await boxWith([{ volume: 'shared', readOnly: true }]);
  await using another = await boxWith([{ volume: 'shared', readOnly: true }]);
  expect(await output(reader, 'ls -d /data/lost+found')).toBe(
    await output(another, 'ls -d /data/lost+found'),
  );
  expect((await failureOf(first.start())).message).toContain('only reads it');
  expect((await failureOf(first.exec(['true']))).code).toBe('conflict');
});

it('cannot be written by a box that only reads it, whatever its root tries', async () => {
  await engine.runtime.volumes.create({ name: 'safe', sizeGb: 1 });
  const path = await fileOf('safe');
  const before = await stat(path);
  await using box = await boxWith([{ volume: 'safe', readOnly: true }], { image: 'debian-python' });
  const script = `
import ctypes, fcntl, os, struct
def attempt(what, task):
    try: task(); print(what, 'worked')
    except OSError as error: print(what, error.errno)
attempt('file', lambda: open('/data/x', 'w'))
disk = os.open('/dev/vdc', os.O_RDWR | os.O_SYNC)
attempt('disk', lambda: os.pwrite(disk, b'x' * 4096, 0))
fcntl.ioctl(disk, 0x125d, struct.pack('i', 0))
attempt('unlocked disk', lambda: os.pwrite(disk, b'x' * 4096, 0))
ctypes.CDLL(None).umount(b'/data')
attempt('discard', lambda: fcntl.ioctl(disk, 0x1277, struct.pack('QQ', 0, 1 << 20)))
attempt('beyond', lambda: os.pwrite(disk, b'x' * 4096, 1 << 31))
`;
  const { stdout, stderr } = await box.exec(['python3', '-c', script]);
  expect(`${stdout}${stderr}`.trim().split('\n')).toEqual([
    'file 30',
    'disk 1',
    'unlocked disk 5',
    'discard 5',
    'beyond 5',
  ]);
  const after = await stat(path);
  expect([after.mtimeMs, after.size, after.blocks]).toEqual([before.mtimeMs, before.size, before.blocks]);
});

it('is no larger than its size, also for a root that writes the disk itself', async () => {
  await engine.runtime.volumes.create({ name: 'small', sizeGb: 1 });
  await using box = await boxWith([{ volume: 'small' }]);
  const disk = await box.exec([
    'sh',
    '-c',
    'dd if=/dev/zero of=/dev/vdc bs=4096 count=1 seek=300000 conv=fsync',
  ]);
  expect(disk.exitCode).not.toBe(0);
  expect((await stat(await fileOf('small'))).size).toBe(1024 ** 3);
  expect(Number(await output(box, "df -m /data | awk 'END { print $2 }'"))).toBeLessThan(1024);
});

it('is not removed while a box has it, in whatever state, and then with its file', async () => {
  const { runtime } = engine;
  const box = await boxWith([{ volume: 'held' }], { name: 'holder', detach: true });
  const path = await fileOf('held');
  const refused = await failureOf(runtime.volumes.remove('held', { force: true }));
  expect(refused.code).toBe('invalid_state');
  expect(refused.message).toContain('holder (running)');
  await box.stop();
  expect((await failureOf(runtime.volumes.remove('held'))).message).toContain('holder (stopped)');
  await box.remove();
  await runtime.gc();
  expect(await runtime.verify()).toMatchObject({ ok: true });
  expect((await stat(path)).size).toBe(10 * 1024 ** 3);
  await runtime.volumes.remove('held');
  expect(await runtime.volumes.get('held')).toBeNull();
  await runtime.gc();
  await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
  expect((await failureOf(runtime.volumes.remove('held'))).code).toBe('not_found');
  await runtime.volumes.remove('held', { force: true });
});

it('goes on with open files after a pause, unless it was written meanwhile', async () => {
  await using box = await boxWith([{ volume: 'open' }]);
  const writer = 'exec 3>/data/log; i=0; while true; do i=$((i+1)); echo $i >&3; sleep 0.05; done';
  await box.startExec(['sh', '-c', writer]);
  await output(box, 'until [ -s /data/log ]; do sleep 0.05; done; echo unsynced > /data/file');
  for (let round = 0; round < 2; round += 1) {
    await box.pause();
    await box.resume();
    const seen = Number(await output(box, 'cat /data/file > /dev/null; tail -1 /data/log'));
    await output(box, `until [ $(tail -1 /data/log) -gt ${seen} ]; do sleep 0.05; done`);
  }
  await box.pause();
  const path = await fileOf('open');
  const { atime, mtime } = await stat(path);
  await utimes(path, atime, new Date(mtime.getTime() + 1));
  const refused = await failureOf(box.resume());
  expect(refused).toMatchObject({ code: 'invalid_state', hint: expect.stringContaining('discardMemory') });
  expect(refused.message).toContain('volume "open" was written since');
  await box.start({ discardMemory: true });
  expect(await output(box, 'cat /data/file')).toBe('unsynced');
});

it('is mended by the next writer after its machine died, and not read before', async () => {
  await using box = await boxWith([{ volume: 'torn' }]);
  await output(box, 'echo synced > /data/file; sync');
  const { pid } = await box.info();
  process.kill(pid ?? 0, 'SIGKILL');
  await failureOf(box.exec(['sleep', '100']));
  await expect.poll(async () => (await box.info()).status).toBe('failed');
  const refused = await failureOf(boxWith([{ volume: 'torn', readOnly: true }]));
  expect(refused.code).toBe('invalid_state');
  expect(refused.message).toContain('cannot mount volume "torn" at /data');
  expect(refused.message).toContain('not unmounted in order');
  await box.start();
  expect(await output(box, 'cat /data/file')).toBe('synced');
  await box.stop();
  await using reader = await boxWith([{ volume: 'torn', readOnly: true }]);
  expect(await output(reader, 'cat /data/file')).toBe('synced');
});

it('is not part of what the memory or the disks of a box become', async () => {
  const { runtime } = engine;
  await using box = await boxWith([
    { volume: 'own' },
    { volume: 'lent', guestPath: '/lent', readOnly: false },
  ]);
  await output(box, 'echo lent > /lent/file');
  for (const [refused, what] of [
    [box.fork({ count: 1 }), 'fork'],
    [runtime.templates.create({ box: box.id }), 'template'],
    [box.snapshot.create('m', { memory: true }), 'memory'],
    [box.export('/never', { memory: true }), 'export'],
  ] as const) {
    const failure = await failureOf(refused);
    expect(failure.code).toBe('invalid_state');
    expect(failure.message).toContain(what);
    expect(failure.message).toContain('volume "own"');
  }
  await box.snapshot.create('disks');
  const clone = await box.clone('comes-without');
  expect((await clone.info()).volumes).toEqual([]);
  await clone.exec(['true']);
  expect(await output(clone, 'ls /lent; ls /data')).toBe('');
  await clone.remove({ force: true });
});

it('is read by forks and after a rollback, as long as nobody wrote it', async () => {
  await using writer = await boxWith([{ volume: 'read' }]);
  await output(writer, 'echo v1 > /data/file');
  await writer.stop();
  await using box = await boxWith([{ volume: 'read', readOnly: true }]);
  await box.snapshot.create('point', { memory: true });
  const [child] = await box.fork({ count: 1 });
  if (!child || !('box' in child)) throw child?.error;
  expect(await output(child.box, 'cat /data/file')).toBe('v1');
  await child.box.remove({ force: true });
  await box.snapshot.restore('point', { live: true });
  expect(await output(box, 'cat /data/file')).toBe('v1');
  await box.stop();
  await writer.start();
  await output(writer, 'echo v2 > /data/file');
  await writer.stop();
  const refused = await failureOf(box.snapshot.restore('point', { live: true }));
  expect(refused.message).toContain('volume "read" was written since');
  expect((await box.info()).status).toBe('stopped');
  await box.start();
  expect(await output(box, 'cat /data/file')).toBe('v2');
});

it('comes to a box that is made from a template', async () => {
  const { runtime } = engine;
  {
    await using source = await runtime.create({ image: 'tiny' });
    await runtime.templates.create({ box: source.id, name: 'plain' });
  }
  await using box = await runtime.create({
    template: 'plain',
    volumes: [
      { volume: 'inner', guestPath: '/outer/inner' },
      { volume: 'outer', guestPath: '/outer' },
    ],
  });
  expect(await output(box, 'mount | grep -c /outer')).toBe('2');
  await output(box, 'echo in > /outer/inner/file');
  await box.pause();
  await box.resume();
  expect(await output(box, 'cat /outer/inner/file')).toBe('in');
  await runtime.templates.remove('plain');
});

it('refuses what cannot be mounted, by name', async () => {
  const { runtime } = engine;
  const refused = async (mount: object): Promise<string> => {
    const { code, message } = await failureOf(boxWith([mount]));
    return `${code}: ${message}`;
  };
  for (const guestPath of [
    'data',
    '',
    '/',
    '//',
    '/a/..',
    '/proc',
    '/proc/x',
    '/sys',
    '/dev/shm',
    '/run/',
    '/a\0b',
  ]) {
    expect(await refused({ guestPath })).toContain('invalid_argument: volumes[0].guestPath must');
  }
  expect(await refused({ guestPath: `/${'x'.repeat(4096)}` })).toContain('invalid_argument');
  for (const volume of ['', 'x', '-x', 'a b', 'é'.repeat(3), 'v'.repeat(129)]) {
    expect(await refused({ volume })).toContain('invalid_argument: the name of a volume');
  }
  expect(await refused({ volume: '/home/user' })).toContain('unsupported: not supported: volumes[0].volume');
  expect(await refused({ hostPath: '/home' })).toBe('unsupported: not supported: volumes[0].hostPath');
  expect(await refused({ volume: `vol_${'0'.repeat(26)}` })).toContain('not_found');
  expect(await refused({ volume: 'missing', readOnly: true })).toContain('not_found');
  const five = Array.from({ length: 5 }, (_, i) => ({ volume: `v${i}`, guestPath: `/v${i}` }));
  expect((await failureOf(boxWith(five))).message).toBe('a box has at most 4 volumes, got 5');
  expect((await failureOf(boxWith([{}, {}]))).message).toContain('two volumes have the guestPath');
  expect((await failureOf(boxWith([{}, { guestPath: '/b' }]))).message).toContain('mounted twice');
  for (const options of [{ name: 'x' }, { name: '.x' }, { sizeGb: 0 }, { sizeGb: 1.5 }, { sizeGb: 1025 }]) {
    expect((await failureOf(runtime.volumes.create(options))).code).toBe('invalid_argument');
  }
  await runtime.volumes.create({ name: 'taken', sizeGb: 1 });
  expect((await failureOf(runtime.volumes.create({ name: 'taken' }))).code).toBe('already_exists');
  const unnamed = await runtime.volumes.create({ sizeGb: 1 });
  expect(unnamed.name).toBe(unnamed.id);
});
