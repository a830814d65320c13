import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { withDatabase } from './disk-files.js';
import { output } from './support.js';
import { tightHome } from './tight-disk.js';

/** A counter in memory only, and so much that a capture has to write. */
const program = `
head -c 12000000 /dev/urandom > /dev/shm/data
i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n.new; mv /dev/shm/n.new /dev/shm/n; sleep 0.05; done`;

/** What of a home a failed capture must not change. */
async function published(home: string): Promise<unknown> {
  return await withDatabase(home, async (db) => ({
    memories: await db.selectFrom('memories').select('id').execute(),
    layers: await db.selectFrom('layers').select('id').where('kind', 'not in', ['qcow2']).execute(),
    boxes: await db.selectFrom('boxes').select(['id', 'status', 'memory_id']).execute(),
    snapshots: await db.selectFrom('snapshots').select('id').execute(),
    templates: await db.selectFrom('templates').select('id').execute(),
    machines: await readdir(join(home, 'machines')),
  }));
}

it('goes on and publishes nothing when a capture finds the disk full', { timeout: 120_000 }, async () => {
  await using home = await tightHome(900);
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny', name: 'b' });
  await box.startExec(['sh', '-c', program]);
  await output(box, 'until [ -e /dev/shm/n ]; do sleep 0.05; done; echo kept > /root/file; sync');
  const sum = await output(box, 'md5sum < /dev/shm/data');
  const { run, pid } = await box.info();
  await runtime.gc();
  const before = await published(home.path);

  for (const leftKiB of [9000, 2000, 300, 60, 0]) {
    await home.fill(leftKiB);
    for (const call of [
      () => box.pause(),
      () => box.fork({ count: 2 }),
      () => box.snapshot.create('s', { memory: true }),
      () => runtime.templates.create({ box: 'b', name: 't' }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'disk_full' });
      expect(await box.info()).toMatchObject({ status: 'running', operation: null, run, pid });
      const n = Number(await output(box, 'cat /dev/shm/n'));
      await output(box, `until [ $(cat /dev/shm/n) -gt ${n} ]; do sleep 0.02; done`);
    }
  }
  await home.empty();
  expect(await output(box, 'md5sum < /dev/shm/data; cat /root/file')).toBe(`${sum}\nkept`);
  expect(await published(home.path)).toEqual(before);
  await runtime.gc();
  expect(await readdir(join(home.path, 'layers'))).toHaveLength(await rowsOfLayers(home.path));
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });

  await box.pause();
  await home.fill(0);
  await expect(box.resume()).rejects.toMatchObject({ code: 'disk_full' });
  expect(await box.info()).toMatchObject({ status: 'paused', operation: null });
  await home.empty();
  expect(await readdir(join(home.path, 'machines'))).toEqual([]);
  expect(await box.resume()).toMatchObject({ resumed: true });
  expect(await output(box, 'md5sum < /dev/shm/data; cat /root/file')).toBe(`${sum}\nkept`);
  expect((await box.info()).run).toBe(run);
});

it('keeps what is written after a capture that failed, though the machine dies', {
  timeout: 120_000,
}, async () => {
  await using home = await tightHome(900);
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny' });
  await output(box, 'head -c 12000000 /dev/urandom > /dev/shm/data; echo early > /root/early; sync');
  // Room for new heads of the disks, and not for the memory.
  await home.fill(9000);
  await expect(box.pause()).rejects.toMatchObject({ code: 'disk_full' });
  await home.empty();
  await output(box, 'echo late > /root/late; sync');
  const events = runtime.events();
  process.kill((await box.info()).pid ?? 0, 'SIGKILL');
  for await (const event of events) if (event.id === box.id && event.change === 'failed') break;
  await box.start();
  expect(await output(box, 'cat /root/early /root/late')).toBe('early\nlate');
});

async function rowsOfLayers(home: string): Promise<number> {
  return (await withDatabase(home, (db) => db.selectFrom('layers').select('id').execute())).length;
}
