import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { recoverHome } from '../../src/home/recover.js';
import { machinesBelow } from '../../src/machine/index.js';
import { openObjectStore } from '../../src/objects/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { startEngine } from '../engine/engine-process.js';
import { failureOf, output } from '../engine/support.js';
import { keys, type S3Server, s3Server } from '../objects/s3-server.js';
import { temporaryDirectory } from '../support/temporary.js';
import { leanHome, untilReplicated } from './support.js';

/** Boxes start and stop and files are copied: seconds, but for a host that is busy. */
const limitMs = 300_000;

let server: S3Server;
beforeAll(async () => {
  process.env.AWS_ACCESS_KEY_ID = keys.access;
  process.env.AWS_SECRET_ACCESS_KEY = keys.secret;
  server = await s3Server();
}, 600_000);
afterAll(async () => server?.[Symbol.asyncDispose]());

async function require(runtime: Runtime, name: string): Promise<Box> {
  const box = await runtime.get(name);
  if (!box) throw new Error(`there is no box ${name}`);
  return box;
}

it(
  'brings boxes, snapshots, templates and images of a lost home back from a bucket',
  async () => {
    const url = `s3://cryobox/home?endpoint=${server.endpoint}`;
    const home = await leanHome();
    const engine = await startEngine(home.path, ['env', `CRYOBOX_REPLICATE=${url}`]);
    const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
    const rested = await client.create({ image: 'tiny', name: 'rested', detach: true, env: { KEPT: 'yes' } });
    await output(rested, 'echo before > /root/file');
    await rested.snapshot.create('early');
    await output(rested, 'echo after > /root/file');
    expect((await rested.info()).durability).toBe('local');
    await rested.stop();
    const paused = await client.create({ image: 'tiny', name: 'paused', detach: true });
    await output(paused, 'echo in memory > /dev/shm/note; echo on disk > /root/file');
    await paused.snapshot.create('moment', { memory: true });
    await output(paused, 'echo later > /dev/shm/note');
    await paused.pause();
    await client.templates.create({ box: 'paused', name: 'base' });
    await untilReplicated(rested, paused);
    const images = (await client.images.list()).map(({ reference }) => reference);
    const store = await openObjectStore(url);
    await expect
      .poll(async () => (await store.list('templates/')).objects.length, { timeout: 100_000 })
      .toBe(1);
    const removed = await client.create({ image: 'tiny', name: 'removed', detach: true });
    await removed.stop();
    await untilReplicated(removed);
    await removed.remove();
    await expect.poll(async () => (await store.list('boxes/')).objects.length, { timeout: 100_000 }).toBe(2);
    await rested.start();
    expect((await rested.info()).durability).toBe('local');
    await output(rested, 'echo never safe > /root/file; sync');
    const { pid } = await rested.info();
    process.kill(engine.pid, 'SIGKILL');
    await engine.exited;
    // Those that waited for boxes die with their host, too.
    const machines = await machinesBelow(join(home.path, 'machines'));
    expect(machines.map((it) => it.process.pid)).toContain(pid);
    for (const machine of machines) process.kill(machine.process.pid, 'SIGKILL');
    await client.close();
    await home[Symbol.asyncDispose]();

    await using elsewhere = await leanHome();
    await rm(elsewhere.path, { recursive: true });
    const back = await recoverHome(elsewhere.path, url);
    expect(back.boxes.map(({ name, status }) => `${name} ${status}`).sort()).toEqual([
      'paused paused',
      'rested stopped',
    ]);
    await using again = await Engine.open({ home: elsewhere.path, poolSize: 0, replicate: { address: url } });
    const runtime = again.runtime();
    const one = await require(runtime, 'rested');
    const two = await require(runtime, 'paused');
    await untilReplicated(one, two);
    expect((await runtime.verify()).problems).toEqual([]);
    expect((await runtime.images.list()).map(({ reference }) => reference)).toEqual(images);
    await one.start();
    expect((await one.info()).durability).toBe('local');
    expect(await output(one, 'cat /root/file; echo $KEPT')).toBe('after\nyes');
    await one.stop();
    await one.snapshot.restore('early');
    await one.start();
    expect(await output(one, 'cat /root/file')).toBe('before');
    await two.resume();
    expect(await output(two, 'cat /dev/shm/note /root/file')).toBe('later\non disk');
    await two.snapshot.restore('moment', { live: true });
    expect(await output(two, 'cat /dev/shm/note')).toBe('in memory');
    const made = await runtime.create({ template: 'base', name: 'made' });
    expect(await output(made, 'cat /dev/shm/note')).toBe('later');
    for (const box of await runtime.list()) await runtime.remove(box.id, { force: true });
  },
  limitMs,
);

it(
  'refuses half a store by name, another home in it, and a home that is not empty',
  async () => {
    const place = join(await temporaryDirectory(), 'store');
    await using home = await leanHome();
    const boxes: string[] = [];
    {
      await using engine = await Engine.open({ home: home.path, poolSize: 0, replicate: { address: place } });
      for (const name of ['one', 'two']) {
        const box = await engine.runtime().create({ image: 'tiny', name, detach: true });
        await output(box, `echo ${name} > /root/file`);
        await box.stop();
        await untilReplicated(box);
        boxes.push(box.id);
      }
      expect(await failureOf(recoverHome(home.path, place))).toMatchObject({ code: 'home_in_use' });
    }
    expect(await failureOf(recoverHome(home.path, place))).toMatchObject({ code: 'invalid_state' });
    const logged: string[] = [];
    {
      await using other = await leanHome();
      const note = (text: string, facts?: object) => logged.push(`${text} ${JSON.stringify(facts)}`);
      const logger = { debug: note, info: note, warn: note, error: note };
      await using engine = await Engine.open({
        home: other.path,
        poolSize: 0,
        replicate: { address: place },
        logger,
      });
      await expect
        .poll(() => logged.join('\n'), { timeout: 100_000 })
        .toMatch(/cannot replicate.*another home/);
      expect(engine.underWay()).toEqual([]);
    }
    const empty = join(await temporaryDirectory(), 'home');
    const manifest = JSON.parse(
      (await readFile(join(place, 'boxes', `${boxes[0]}.json`), 'utf8')).split('\n')[1] ?? '',
    );
    const own = manifest.disks.disk as string;
    await rm(join(place, 'layers', own, 'data'));
    expect(await failureOf(recoverHome(empty, place))).toMatchObject({
      code: 'integrity',
      message: expect.stringMatching(new RegExp(`layer ${own} of box one \\(${boxes[0]}\\) has no bytes`)),
      hint: expect.stringContaining('--skip'),
    });
    expect(await readdir(join(empty, 'layers'))).toEqual([]);
    const back = await recoverHome(empty, place, { skip: [boxes[0] ?? ''] });
    expect(back.boxes.map(({ name }) => name)).toEqual(['two']);
    expect(await failureOf(recoverHome(join(empty, 'x'), join(place, 'nothing')))).toMatchObject({
      code: 'not_found',
    });
  },
  limitMs,
);

it(
  'is not ahead of the truth while the store is away, and goes on when it is back',
  async () => {
    const url = `s3://cryobox/away?endpoint=${server.endpoint}`;
    onTestFinished(() => {
      server.proxy.lie = () => undefined;
    });
    await using home = await leanHome();
    await using engine = await Engine.open({
      home: home.path,
      poolSize: 0,
      replicate: { address: url, graceMs: 1, sweepMs: 1 },
    });
    const box = await engine.runtime().create({ image: 'tiny', name: 'away', detach: true });
    server.proxy.lie = ({ method, url: at }) =>
      method === 'PUT' && at.includes('/boxes/') ? { status: 503 } : undefined;
    await box.stop();
    const asked = () =>
      server.proxy.asked.filter(({ method, url: at }) => method === 'PUT' && at.includes('/boxes/'));
    await expect.poll(() => asked().length, { timeout: 100_000 }).toBeGreaterThan(2);
    expect((await box.info()).durability).toBe('replicating');
    expect((await engine.runtime().list())[0]?.durability).toBe('replicating');
    server.proxy.lie = () => undefined;
    await untilReplicated(box);
    await box.rename('renamed');
    expect((await box.info()).durability).not.toBe('local');
    await untilReplicated(box);
    await using store = await openObjectStore(url);
    const layers = async () => (await store.list('layers/')).objects.length;
    const before = await layers();
    await box.remove();
    // What only the box needed is noted, and goes with a later look; what the image needs stays.
    await expect.poll(layers, { timeout: 100_000 }).toBeLessThan(before);
    expect(await layers()).toBeGreaterThan(0);
  },
  limitMs,
);
