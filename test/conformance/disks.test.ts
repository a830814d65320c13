import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { connectRuntime } from '../../dist/remote/index.js';
import { conformance } from './support.js';

conformance('disks', (subject) => {
  it('are snapshotted while running, restored when stopped, and snapshots removed', async () => {
    const { box } = subject;
    await box.files.write('/root/state', 'before');
    const taken = await box.snapshot.create('we ird.é');
    expect(taken).toMatchObject({ boxId: box.id, name: 'we ird.é', hasMemory: false, consistency: 'frozen' });
    expect(taken.guestPauseMs).toBeGreaterThan(0);
    expect(Math.abs(taken.createdAt.getTime() - Date.now())).toBeLessThan(60_000);
    await box.files.write('/root/state', 'after');
    await expect(box.snapshot.create('we ird.é')).rejects.toMatchObject({ code: 'already_exists' });
    for (const name of ['', '.hidden', 'a/b', 'x'.repeat(256)]) {
      await expect(box.snapshot.create(name)).rejects.toMatchObject({ code: 'invalid_argument' });
    }
    await expect(box.snapshot.restore('we ird.é')).rejects.toMatchObject({ code: 'invalid_state' });
    await box.stop();
    await box.snapshot.restore('we ird.é');
    await box.snapshot.create('stopped');
    await box.start();
    expect((await box.files.read('/root/state')).toString()).toBe('before');
    expect((await box.snapshot.list()).map(({ name }) => name)).toEqual(['stopped', 'we ird.é']);
    expect(await box.snapshot.get('stopped')).toMatchObject({ name: 'stopped', consistency: 'clean' });
    expect(await box.snapshot.get('missing')).toBeNull();
    await box.snapshot.remove('we ird.é');
    await expect(box.snapshot.remove('we ird.é')).rejects.toMatchObject({ code: 'not_found' });
    await box.snapshot.remove('stopped');
  });

  it('are cloned, from the box or a snapshot of it', async () => {
    const { box, runtime } = subject;
    await box.files.write('/root/state', 'one');
    await box.stop();
    await box.snapshot.create('one');
    await box.files.write('/root/state', 'two');
    await box.stop();
    const clone = await box.clone('clone', { startAfterClone: true });
    expect((await clone.files.read('/root/state')).toString()).toBe('two');
    await expect(box.clone('clone')).rejects.toMatchObject({ code: 'already_exists' });
    const earlier = await box.clone(undefined, { fromSnapshot: 'one' });
    expect((await earlier.info()).status).toBe('stopped');
    expect((await earlier.files.read('/root/state')).toString()).toBe('one');
    await expect(box.clone('x', { fromSnapshot: 'none' })).rejects.toMatchObject({ code: 'not_found' });
    await runtime.remove(clone.id, { force: true });
    await runtime.remove(earlier.id, { force: true });
    await box.snapshot.remove('one');
  });

  it('are limited, when a box is made and later', async () => {
    const { box, runtime } = subject;
    const diskLimits = { readBytesPerSecond: 1_000_000, writeOperationsPerSecond: 100 };
    const limited = await runtime.create({ image: 'tiny', diskLimits, detach: true });
    expect((await limited.info()).diskLimits).toEqual(diskLimits);
    await limited.limitDisk({ writeBytesPerSecond: 2_000_000 });
    expect((await limited.info()).diskLimits).toEqual({ writeBytesPerSecond: 2_000_000 });
    await limited.limitDisk({});
    expect((await limited.info()).diskLimits).toEqual({});
    await limited.remove({ force: true });
    await expect(limited.limitDisk({})).rejects.toMatchObject({ code: 'not_found' });
    expect((await box.info()).diskLimits).toEqual({});
    for (const wrong of [
      { readBytesPerSecond: 1 },
      { readOperationsPerSecond: '50' },
      { bps: 1 },
      [],
      null,
    ]) {
      const refused = { code: expect.stringMatching(/^(invalid_argument|unsupported)$/) };
      await expect(box.limitDisk(wrong as object)).rejects.toMatchObject(refused);
      if (wrong === null) continue;
      const made = runtime.create({ image: 'tiny', diskLimits: wrong as object });
      await expect(made).rejects.toMatchObject(refused);
    }
  });

  it('are exported with memory, which is imported for who is trusted', async () => {
    const { box, runtime, stage } = subject;
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-export-'));
    try {
      await box.start();
      await box.exec(['sh', '-c', 'sleep 1000000 & echo $! > /root/pid; sync']);
      const archive = await box.export(join(directory, 'whole.boxsnap'), { memory: true });
      expect((await box.info()).status).toBe('running');
      await expect(runtime.import(archive)).rejects.toMatchObject({ code: 'invalid_argument' });
      const disks = await runtime.import(archive, { memory: false });
      expect((await disks.info()).status).toBe('stopped');
      await disks.remove({ force: true });
      // Without a key one may be any user of the host.
      await using anyone = connectRuntime({ url: stage.url });
      const refused = anyone.import(archive, { memory: true });
      await expect(refused).rejects.toMatchObject({ code: 'permission_denied' });
      const made = await runtime.import(archive, { name: 'whole', memory: true });
      expect(await made.info()).toMatchObject({ name: 'whole', status: 'paused' });
      const { stdout } = await made.exec(['sh', '-c', 'cat /proc/$(cat /root/pid)/comm; hostname']);
      expect(stdout.toString()).toBe('sleep\nwhole\n');
      await made.remove({ force: true });
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
