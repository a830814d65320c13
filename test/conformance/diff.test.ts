import { expect, it } from 'vitest';
import type { FileChange } from '../../src/api/index.js';
import { conformance } from './support.js';

conformance('changed files', (subject) => {
  it('are told of two states of a box, in pages', async () => {
    const { box } = subject;
    await box.exec(['sh', '-c', 'mkdir -p /root/d && echo old > /root/d/old && echo same > /root/d/same']);
    await box.snapshot.create('it’s one');
    await box.exec(['sh', '-c', 'rm /root/d/old && echo new > /root/d/new && chmod 600 /root/d/same']);
    await expect(box.diff({ from: 'it’s one' })).rejects.toMatchObject({
      code: 'invalid_state',
      hint: expect.stringContaining('cryobox snapshot create'),
    });
    await box.snapshot.create('two');
    const wanted: FileChange[] = [
      {
        path: '/root/d/new',
        kind: 'added',
        typeBefore: null,
        typeAfter: 'file',
        sizeBefore: null,
        sizeAfter: 4,
      },
      {
        path: '/root/d/old',
        kind: 'removed',
        typeBefore: 'file',
        typeAfter: null,
        sizeBefore: 4,
        sizeAfter: null,
      },
      {
        path: '/root/d/same',
        kind: 'metadata',
        typeBefore: 'file',
        typeAfter: 'file',
        sizeBefore: 5,
        sizeAfter: 5,
      },
    ];
    const states = { from: 'it’s one', to: 'two' };
    expect(await box.diff(states)).toEqual({ changes: wanted, next: null });
    const first = await box.diff({ ...states, limit: 2 });
    expect(first.changes).toEqual(wanted.slice(0, 2));
    expect(await box.diff({ ...states, limit: 2, after: first.next ?? '' })).toEqual({
      changes: wanted.slice(2),
      next: null,
    });
    const ofImage = (await box.diff({ to: { snapshot: 'two' } })).changes.map(({ path }) => path);
    expect(ofImage).toContain('/root/d/same');
    const child = await box.clone('of-diff', { fromSnapshot: 'two' });
    expect(await box.diff({ from: { snapshot: 'two' }, to: { box: 'of-diff' } })).toEqual({
      changes: [],
      next: null,
    });
    await box.stop();
    expect((await box.diff({ from: {}, to: { box: child.id } })).next).toBeNull();
    await child.remove({ force: true });
    for (const wrong of [{ from: 'none' }, { to: { box: 'none' } }]) {
      await expect(box.diff(wrong)).rejects.toMatchObject({ code: 'not_found' });
    }
    await expect(box.diff({ ...states, after: 'nowhere' })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await box.snapshot.remove('it’s one');
    await box.snapshot.remove('two');
    await box.start();
  });
});
