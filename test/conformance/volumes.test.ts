import { expect, it } from 'vitest';
import { conformance } from './support.js';

conformance('volumes', (subject) => {
  it('are made, listed, found by name and id, and removed', async () => {
    const { volumes } = subject.runtime;
    const made = await volumes.create({ name: 'first', sizeGb: 2 });
    expect(made).toMatchObject({ name: 'first', sizeBytes: 2 * 1024 ** 3, boxes: [] });
    expect(made.id).toMatch(/^vol_[0-9a-z]{26}$/);
    expect(Math.abs(made.createdAt.getTime() - Date.now())).toBeLessThan(60_000);
    expect(made.usedBytes).toBeLessThan(made.sizeBytes);
    const unnamed = await volumes.create();
    expect(unnamed.name).toBe(unnamed.id);
    expect(await volumes.list()).toEqual([made, unnamed]);
    expect(await volumes.get('first')).toEqual(made);
    expect(await volumes.get(made.id)).toEqual(made);
    expect(await volumes.get('missing')).toBeNull();
    await expect(volumes.create({ name: 'first' })).rejects.toMatchObject({ code: 'already_exists' });
    await expect(volumes.create({ name: 'a b' })).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(volumes.create({ sizeGb: 0 })).rejects.toMatchObject({ code: 'invalid_argument' });
    await volumes.remove('first');
    await volumes.remove(unnamed.id);
    await expect(volumes.remove('first')).rejects.toMatchObject({ code: 'not_found' });
    await volumes.remove('first', { force: true });
    expect(await volumes.list()).toEqual([]);
  });

  it('keep what a box wrote for another, which may be let to read only', async () => {
    const { runtime } = subject;
    const mount = { volume: 'kept', guestPath: '/srv/kept' };
    const writer = await runtime.create({ image: 'tiny', name: 'writer', detach: true, volumes: [mount] });
    expect((await writer.info()).volumes).toEqual([{ ...mount, readOnly: false }]);
    expect(await runtime.volumes.get('kept')).toMatchObject({ boxes: [writer.id] });
    await writer.files.write('/srv/kept/file', 'content');
    const second = runtime.create({ image: 'tiny', detach: true, volumes: [mount] });
    await expect(second).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('in use by box writer'),
    });
    await writer.pause();
    expect((await writer.files.read('/srv/kept/file')).toString()).toBe('content');
    await expect(runtime.volumes.remove('kept')).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(writer.fork({ count: 1 })).rejects.toMatchObject({ code: 'invalid_state' });
    await writer.remove({ force: true });

    const readOnly = { ...mount, readOnly: true };
    const reader = await runtime.create({ image: 'tiny', detach: true, volumes: [readOnly] });
    expect((await reader.files.read('/srv/kept/file')).toString()).toBe('content');
    const write = reader.exec(['touch', '/srv/kept/other']);
    expect((await write).stderr.toString()).toContain('Read-only file system');
    await reader.remove({ force: true });
    await runtime.volumes.remove('kept');
  });

  it('that cannot be mounted are refused before a box is made', async () => {
    const { runtime } = subject;
    const refused = (volume: string, guestPath: string, readOnly = false) =>
      expect(runtime.create({ image: 'tiny', volumes: [{ volume, guestPath, readOnly }] })).rejects;
    await refused('data', 'relative').toMatchObject({ code: 'invalid_argument' });
    await refused('data', '/proc/x').toMatchObject({ code: 'invalid_argument' });
    await refused('/home', '/home').toMatchObject({ code: 'unsupported' });
    await refused('missing', '/data', true).toMatchObject({ code: 'not_found' });
    expect(await runtime.volumes.list()).toEqual([]);
    expect(await runtime.list()).toHaveLength(1);
  });
});
