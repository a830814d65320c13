import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { recoverHome } from '../../src/home/recover.js';
import { openObjectStore } from '../../src/objects/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { startEngine } from '../engine/engine-process.js';
import { failureOf, output } from '../engine/support.js';
import type { TestHome } from '../support/home.js';
import { partOf } from '../support/part.js';
import { temporaryDirectory } from '../support/temporary.js';
import { endMachines, leanHome } from './support.js';

/** Boxes start and stop and files are copied: seconds, but for a host that is busy. */
const limitMs = 300_000;

async function has(runtime: Runtime, id: string): Promise<boolean> {
  return (await runtime.get(id)) !== null;
}

it(
  'takes boxes from home to home and back, with memory and snapshots, and each to one home only',
  async () => {
    const folder = await temporaryDirectory();
    const [one, two] = [join(folder, 'one'), join(folder, 'two')];
    await using first = await leanHome();
    await using second = await leanHome();
    await using third = await leanHome();
    await using a = await Engine.open({ home: first.path, poolSize: 0, replicate: { address: one } });
    await using b = await Engine.open({ home: second.path, poolSize: 0, replicate: { address: two } });
    await using c = await Engine.open({ home: third.path, poolSize: 0 });
    const [here, there, aside] = [a.runtime(), b.runtime(), c.runtime()];

    const box = await here.create({ image: 'tiny', name: 'mover', detach: true });
    await output(box, 'echo early > /root/file');
    await box.snapshot.create('early');
    await output(box, 'echo disk > /root/file; echo memory > /dev/shm/note');
    expect(await failureOf(box.release())).toMatchObject({ code: 'invalid_state' });
    const rests = await aside.create({ image: 'tiny', name: 'rests', detach: true });
    await rests.stop();
    expect(await failureOf(rests.release())).toMatchObject({ code: 'invalid_state' });
    await box.pause();
    await box.release();
    expect(await has(here, box.id)).toBe(false);
    expect(await failureOf(box.resume())).toMatchObject({ code: 'not_found' });
    // A recovery of the home that it left must not bring it to life a second time.
    const copy = join(folder, 'copy');
    await cp(one, copy, { recursive: true });
    const back = await recoverHome(join(folder, 'back'), copy);
    expect(back.boxes).toEqual([]);

    expect(await failureOf(there.adopt(one, { box: 'nobody' }))).toMatchObject({ code: 'not_found' });
    expect(await failureOf(there.adopt(join(folder, 'nothing'), { box: box.id }))).toMatchObject({
      code: 'not_found',
    });
    const taken = await Promise.allSettled([
      there.adopt(one, { box: 'mover' }),
      aside.adopt(one, { box: box.id }),
    ]);
    const losers = taken.flatMap((it) => (it.status === 'rejected' ? [it.reason.code] : []));
    expect(losers).toHaveLength(1);
    expect(['conflict', 'not_found']).toContain(losers[0]);
    expect([await has(there, box.id), await has(aside, box.id)].sort()).toEqual([false, true]);

    const winner = (await has(there, box.id)) ? there : aside;
    const moved = await winner.get(box.id);
    if (!moved) throw new Error('the box is gone');
    expect(await moved.info()).toMatchObject({ name: 'mover', status: 'paused' });
    // Asking again gives the same box.
    expect((await winner.adopt(one, { box: box.id })).id).toBe(box.id);
    await moved.resume();
    expect(await output(moved, 'cat /root/file /dev/shm/note')).toBe('disk\nmemory');
    await moved.stop();
    await moved.snapshot.restore('early');
    await moved.start();
    expect(await output(moved, 'cat /root/file')).toBe('early');
    expect((await winner.verify()).problems).toEqual([]);
    await moved.remove({ force: true });

    // There and back, and the store of the first keeps what the first box of two needs no more for a while only.
    const traveller = await here.create({ image: 'tiny', name: 'traveller', detach: true });
    await output(traveller, 'echo kept > /root/file');
    await traveller.stop();
    await traveller.release();
    const away = await there.adopt(one, { box: 'traveller', name: 'guest' });
    await away.start();
    await output(away, 'echo more >> /root/file');
    await away.stop();
    await away.release();
    const home = await here.adopt(two, { box: 'guest' });
    expect(home.id).toBe(traveller.id);
    await home.start();
    expect(await output(home, 'cat /root/file')).toBe('kept\nmore');
    expect((await here.verify()).problems).toEqual([]);
    await home.remove({ force: true });
    await rests.remove({ force: true });
    for (const place of [one, two]) {
      await using store = await openObjectStore(place);
      expect((await store.list('released/')).objects).toEqual([]);
    }
  },
  limitMs,
);

/** Where homes are killed while a box leaves one for the other; `npm run test:replicas` takes every place. */
const some = (points: readonly string[]) =>
  process.env.CRYOBOX_REPLICAS === 'all' ? points : partOf(points, points.length);
const whileReleasing = ['replica.manifest:after', 'release.commit:after', 'release.put:after'];
const whileAdopting = ['recover.layer:after', 'head.create:after', 'adopt.claim:after', 'adopt.commit:after'];

it.each([
  ...some(whileReleasing).map((point) => ({ who: 'the first', point })),
  ...some(whileAdopting).map((point) => ({ who: 'the second', point })),
])(
  'has a box in one home and no other when $who is killed at $point',
  async ({ who, point }) => {
    const store = join(await temporaryDirectory(), 'store');
    await using first = await leanHome();
    await using second = await leanHome();
    let id = '';
    {
      await using engine = await Engine.open({ home: first.path, poolSize: 0 });
      const box = await engine.runtime().create({ image: 'tiny', name: 'mover', detach: true });
      await output(box, 'echo kept > /root/file');
      await box.stop();
      id = box.id;
    }
    const run = async (
      home: TestHome,
      env: readonly string[],
      task: (runtime: Runtime) => Promise<unknown>,
    ) => {
      const engine = await startEngine(home.path, ['env', ...env]);
      let isOver = false;
      const exited = engine.exited.then(() => {
        isOver = true;
      });
      const client = connectRuntime({ socketPath: join(home.path, 'engine.sock') });
      try {
        return await task(client).catch((error: unknown) => error);
      } finally {
        await client.close();
        if (!isOver) process.kill(engine.pid, 'SIGKILL');
        await exited;
        await endMachines(home);
      }
    };
    const fault = (whose: string) => (who === whose ? [`CRYOBOX_FAULT=${point}`] : []);
    const replicate = `CRYOBOX_REPLICATE=${store}`;
    const release = async (runtime: Runtime) => {
      const box = await runtime.get(id);
      if (box) await box.release();
    };
    const failed = await run(first, [replicate, ...fault('the first')], release);
    expect(failed instanceof Error).toBe(who === 'the first');
    // Whatever it was cut short in: it is there, or it has left, and then the store comes to know it.
    expect(await run(first, [replicate], release)).toBeUndefined();
    await using objects = await openObjectStore(store);
    const adopt = (runtime: Runtime) => runtime.adopt(store, { box: id });
    const offered = async () => (await objects.list(`released/${id}/`)).objects.length;
    if (who === 'the first' && point !== 'replica.manifest:after') {
      const look = async () => {
        await expect.poll(offered, { timeout: 60_000 }).toBe(1);
      };
      expect(await run(first, [replicate], look)).toBeUndefined();
    }
    expect(await offered()).toBe(1);
    const cut = await run(second, fault('the second'), adopt);
    expect(cut instanceof Error).toBe(who === 'the second');
    await using elsewhere = await leanHome();
    await using other = await Engine.open({ home: elsewhere.path, poolSize: 0 });
    if (who === 'the second' && point.startsWith('adopt.')) {
      // It was promised to the second home, which is the only one that may go on.
      const refused = await failureOf(other.runtime().adopt(store, { box: id }));
      expect(refused).toMatchObject({ code: 'conflict' });
    }
    await using engine = await Engine.open({ home: second.path, poolSize: 0 });
    const box = await engine.runtime().adopt(store, { box: id });
    await box.start();
    expect(await output(box, 'cat /root/file')).toBe('kept');
    expect(await failureOf(other.runtime().adopt(store, { box: id }))).toMatchObject({ code: 'not_found' });
    expect((await engine.runtime().verify()).problems).toEqual([]);
    expect((await recoverHome(join(await temporaryDirectory(), 'back'), store)).boxes).toEqual([]);
    await box.remove({ force: true });
  },
  limitMs,
);
