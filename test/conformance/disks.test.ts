import { expect, it } from 'vitest';
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
});
