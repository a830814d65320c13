import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Progress } from '../../src/api/index.js';
import { conformance } from './support.js';

conformance('archives', (subject) => {
  let host = '';
  beforeAll(async () => {
    host = await mkdtemp(join(tmpdir(), 'cryobox-archives-'));
  });
  afterAll(() => rm(host, { recursive: true, force: true }));

  it('are written and read as files, with progress', async () => {
    const { box, runtime } = subject;
    await box.files.write('/root/state', 'exported');
    const progress: Progress[] = [];
    const path = await box.export(`${host}/`, { onProgress: (each) => progress.push(each) });
    expect(path).toBe(join(host, `${box.id}.boxsnap`));
    expect(progress.length).toBeGreaterThan(0);
    expect(await readdir(host)).toEqual([`${box.id}.boxsnap`]);
    const imported = await runtime.import(path, {
      name: 'imported',
      onProgress: (each) => progress.push(each),
    });
    expect(await imported.info()).toMatchObject({ name: 'imported', status: 'stopped' });
    expect((await imported.files.read('/root/state')).toString()).toBe('exported');
    await expect(runtime.import(path, { name: 'imported' })).rejects.toMatchObject({
      code: 'already_exists',
    });
    await imported.remove({ force: true });
    expect((await box.info()).status).toBe('running');
  });

  it('leave out the values a box was given, name them, and take them again', async () => {
    const { runtime } = subject;
    const env = { TOKEN: 'first', PLACE: 'Ä\n"x"', OTHER: '1' };
    const source = await runtime.create({ image: 'tiny', detach: true, env });
    const path = join(host, 'secrets');
    await source.export(path);
    await source.remove({ force: true });
    const without = await (await runtime.import(path, { name: 'without' })).info();
    expect(without.missingEnv).toEqual(['TOKEN', 'PLACE', 'OTHER']);
    const given = await runtime.import(path, { env: { TOKEN: 'second', PLACE: env.PLACE, MORE: 'x' } });
    const { missingEnv, env: has } = await given.info();
    expect([missingEnv, has]).toEqual([
      ['OTHER'],
      { ...without.env, TOKEN: 'second', PLACE: env.PLACE, MORE: 'x' },
    ]);
    expect((await given.exec(['sh', '-c', 'echo "$TOKEN $PLACE"'])).stdout).toBe(`second ${env.PLACE}\n`);
    // What an import gives is a secret as well.
    const again = await runtime.import(await given.exportStream());
    expect((await again.info()).missingEnv).toEqual(['TOKEN', 'PLACE', 'OTHER', 'MORE']);
    for (const box of [without.id, given.id, again.id]) await runtime.remove(box, { force: true });
    await expect(runtime.import(path, { env: { 'A=B': '' } })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await expect(runtime.import(path, { env: { A: 'x'.repeat(13_000) } })).rejects.toMatchObject({
      code: 'payload_too_large',
    });
  });

  it('are streams', async () => {
    const { box, runtime } = subject;
    const path = join(host, 'streamed');
    await writeFile(path, await box.exportStream({ compressionLevel: 1 }));
    const imported = await runtime.import(createReadStream(path));
    expect((await imported.files.read('/root/state')).toString()).toBe('exported');
    await imported.remove({ force: true });
    for await (const _chunk of await box.exportStream()) break;
    expect((await box.info()).operation).toBeNull();
  });

  it('that are none, are cut off, or are not there are refused', async () => {
    const { runtime } = subject;
    const garbage = join(host, 'garbage');
    await writeFile(garbage, 'this is no archive');
    await expect(runtime.import(garbage)).rejects.toMatchObject({ code: 'archive_invalid' });
    const cut = join(host, 'cut');
    await writeFile(cut, await readFile(join(host, 'streamed')));
    await truncate(cut, 100_000);
    await expect(runtime.import(cut)).rejects.toMatchObject({ code: 'archive_invalid' });
    await expect(runtime.import(join(host, 'missing'))).rejects.toMatchObject({ code: 'not_found' });
    expect((await runtime.list()).length).toBe(1);
  });

  it('are imported once for a call that is made again', async () => {
    const { box, runtime } = subject;
    const operationId = `opn_${'0'.repeat(10)}${box.id.slice(-16)}`;
    const path = join(host, 'streamed');
    const [one, other] = await Promise.all([1, 2].map(() => runtime.import(path, { operationId })));
    expect(one?.id).toBe(other?.id);
    expect((await runtime.list()).length).toBe(2);
    await one?.remove({ force: true });
  });

  it('are given up when the call is cancelled', async () => {
    const { box, runtime } = subject;
    const stop = new AbortController();
    const exported = (async () => {
      for await (const _chunk of await box.exportStream({ signal: stop.signal })) stop.abort();
    })();
    await expect(exported).rejects.toMatchObject({ code: 'cancelled' });
    const importing = runtime.import(join(host, 'streamed'), { signal: AbortSignal.abort() });
    await expect(importing).rejects.toMatchObject({ code: 'cancelled' });
    expect((await runtime.list()).length).toBe(1);
  });
});
