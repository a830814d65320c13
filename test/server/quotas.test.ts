import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { HomeLimits, type LimitName, type LimitOwner } from '../../dist/home/limits.js';
import type { Box, ResourceUse, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { createServer, type Principal, type Server, scopes } from '../../src/server/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { temporaryDirectory } from '../support/temporary.js';
import { writeTinyImage } from '../support/tiny-image.js';

type Limits = Readonly<Partial<Record<LimitName, number | null>>>;

/** Keys are the names of tenants; `owner` is the home's. */
const tenants: Readonly<Record<string, string>> = { owner: '', ann: 'ann', bob: 'bob' };

let home: TestHome;
let engine: Engine;
let server: Server;
let url: string;
let runtime: Runtime;
let box: Box;

beforeAll(async () => {
  home = await newHome();
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  const authenticate = async (token: string): Promise<Principal | null> => {
    const tenant = tenants[token];
    return tenant === undefined ? null : { id: token, tenant, scopes, expiresAt: null };
  };
  server = createServer({ runtimeFor: engine.runtime.bind(engine), authenticator: { authenticate } });
  ({ url } = await server.listen({ port: 0 }));
  runtime = as('owner');
  box = await runtime.create({ image: 'tiny', detach: true });
});

afterAll(async () => {
  for (const each of Object.keys(tenants).map(as)) {
    for (const { id } of await each.list()) await each.remove(id, { force: true });
  }
  await server.close();
  await engine.close();
  await home[Symbol.asyncDispose]();
});

const as = (key: string): Runtime => connectRuntime({ url, apiKey: key });

async function set(limits: Limits, owner: LimitOwner = 'home'): Promise<void> {
  await using limitsOfHome = await HomeLimits.open(home.path);
  await limitsOfHome.set(owner, limits);
}

afterEach(async () => {
  await using limits = await HomeLimits.open(home.path);
  for (const { owner, name } of await limits.list()) await limits.set(owner, { [name]: null });
});

/** What lies in the home for boxes, once what is not needed is gone. */
async function filesOfLayers(): Promise<string[]> {
  await runtime.gc();
  return (await readdir(join(home.path, 'layers'))).sort();
}

async function used(
  scope: ResourceUse['scope'],
  resource: ResourceUse['resource'],
  whose = runtime,
): Promise<ResourceUse> {
  const { uses } = await whose.metrics();
  const found = uses.find((it) => it.scope === scope && it.resource === resource);
  if (!found) throw new Error(`${scope} has no ${resource}`);
  return found;
}

/** Expects a call to be refused for want of a resource, and sees what it says of it. */
async function refused(call: Promise<unknown>, resource: string, limit: number, has: number): Promise<void> {
  await expect(call).rejects.toMatchObject({
    code: 'resource_exhausted',
    message: expect.stringMatching(new RegExp(`${has} .*at most ${limit} `)),
    details: expect.objectContaining({ resource, limit, used: has }),
  });
}

it('checks limits of what is stored wherever it is stored, and leaves nothing of what it refuses', async () => {
  const boxes = await used('home', 'boxes');
  const disk = await used('home', 'diskGb');
  expect(boxes).toMatchObject({ used: 1, limit: null });
  const files = await filesOfLayers();
  await set({ boxes: 1 });
  await refused(runtime.create({ image: 'tiny' }), 'boxes', 1, 1);
  await refused(box.clone(), 'boxes', 1, 1);
  await set({ boxes: null, diskGb: disk.used + 5 });
  await refused(runtime.create({ image: 'tiny' }), 'diskGb', disk.used + 5, disk.used);
  await refused(runtime.volumes.create({ sizeGb: 6 }), 'diskGb', disk.used + 5, disk.used);
  await set({ diskGb: null, snapshots: 0 });
  await refused(box.snapshot.create('s'), 'snapshots', 0, 0);
  await refused(box.snapshot.create('s', { memory: true }), 'snapshots', 0, 0);
  await refused(runtime.templates.create({ box: box.id, name: 't' }), 'snapshots', 0, 0);
  await set({ snapshots: null, freeDiskMiB: 2 ** 40 });
  await expect(runtime.create({ image: 'tiny' })).rejects.toMatchObject({
    code: 'resource_exhausted',
    details: expect.objectContaining({ resource: 'freeDiskMiB', limit: 2 ** 40 }),
  });
  await expect(runtime.images.import('/no/such/image', { reference: 'more' })).rejects.toMatchObject({
    code: 'resource_exhausted',
    details: expect.objectContaining({ resource: 'freeDiskMiB' }),
  });
  expect(await used('host', 'freeDiskMiB')).toMatchObject({ limit: 2 ** 40 });
  await set({ freeDiskMiB: null });
  expect(await used('home', 'boxes')).toEqual(boxes);
  expect(await used('home', 'diskGb')).toEqual(disk);
  expect(await filesOfLayers()).toEqual(files);
});

it('checks limits of what is stored by imports and forks, and by each child', async () => {
  const directory = await temporaryDirectory();
  const archive = await box.export(join(directory, 'a.boxsnap'));
  await set({ boxes: 1 });
  await refused(runtime.import(archive), 'boxes', 1, 1);
  await refused(box.fork({ count: 1 }), 'boxes', 1, 1);
  await set({ boxes: 2 });
  const forks = await box.fork({ count: 2 });
  expect(forks).toMatchObject([{ box: {} }, { error: { code: 'resource_exhausted' } }]);
  for (const fork of forks) if ('box' in fork) await fork.box.remove({ force: true });
  expect(await used('home', 'boxes')).toMatchObject({ used: 1 });
  expect((await box.exec(['true'])).exitCode).toBe(0);
});

it('checks limits of what runs when a box comes to run, in whatever way', async () => {
  const memory = await used('home', 'memoryMiB');
  const cpus = await used('home', 'cpus');
  await box.pause();
  await set({ runningBoxes: 0 });
  await refused(box.exec(['true']), 'runningBoxes', 0, 0);
  await refused(box.resume(), 'runningBoxes', 0, 0);
  expect((await box.info()).status).toBe('paused');
  await set({ runningBoxes: null });
  await box.resume();
  const stopped = await runtime.create({ image: 'tiny', detach: true });
  await stopped.stop();
  await set({ memoryMiB: memory.used });
  await refused(stopped.start(), 'memoryMiB', memory.used, memory.used);
  await set({ memoryMiB: null, cpus: cpus.used });
  await refused(stopped.start(), 'cpus', cpus.used, cpus.used);
  await set({ cpus: null, memoryOvercommit: 0.001 });
  await expect(stopped.start()).rejects.toMatchObject({
    code: 'resource_exhausted',
    details: expect.objectContaining({ resource: 'memoryMiB', scope: 'host' }),
  });
  await stopped.remove();
  expect(await used('home', 'runningBoxes')).toMatchObject({ used: 1 });
});

it('takes nothing back when a limit becomes lower than what is used, and refuses only what is new', async () => {
  const other = await box.clone('other', { startAfterClone: true });
  await other.snapshot.create('then', { memory: true });
  await set({ runningBoxes: 1, boxes: 1, snapshots: 0, cpus: 1, memoryMiB: 1, diskGb: 1, executions: 1 });
  expect((await other.exec(['true'])).exitCode).toBe(0);
  // It runs all the time, for whoever looks at it from outside.
  await other.snapshot.restore('then', { live: true });
  expect((await other.exec(['true'])).exitCode).toBe(0);
  await other.pause();
  const { lastActivityAt: _, ...before } = await other.info();
  await refused(other.snapshot.restore('then', { live: true }), 'runningBoxes', 1, 1);
  expect(await other.info()).toMatchObject(before);
  await set({ runningBoxes: null, cpus: null, memoryMiB: null });
  await other.resume();
  await other.remove({ force: true });
});

it('gives the place back of what does not come to run, and leaves no clone that may not', async () => {
  await set({ runningBoxes: 2, executions: 1 });
  const main = { entrypoint: ['/no/such/program'] };
  for (const _ of [1, 2, 3]) {
    await expect(runtime.create({ image: 'tiny', ...main })).rejects.toMatchObject({
      code: 'command_not_found',
    });
    await expect(box.exec(['/no/such/program'])).rejects.toMatchObject({ code: 'command_not_found' });
  }
  expect(await used('home', 'runningBoxes')).toMatchObject({ used: 1 });
  expect(await used('home', 'executions')).toMatchObject({ used: 0 });
  await set({ runningBoxes: 1 });
  await refused(box.clone('late', { startAfterClone: true }), 'runningBoxes', 1, 1);
  await refused(runtime.create({ image: 'tiny', name: 'late' }), 'runningBoxes', 1, 1);
  const [fork] = await box.fork({ count: 1 });
  expect(fork).toMatchObject({ error: { code: 'resource_exhausted' } });
  expect(await runtime.list()).toHaveLength(1);
});

it('counts a command until it has ended', async () => {
  await set({ executions: 1 });
  const first = await box.startExec(['sh', '-c', 'read line'], { stdin: true });
  await refused(box.exec(['true']), 'executions', 1, 1);
  await first.stdin?.end();
  await first.wait();
  expect((await box.exec(['true'])).exitCode).toBe(0);
});

it('gives the last place to one of several who ask at once', async () => {
  await set({ boxes: 2 });
  const clones = await Promise.allSettled(Array.from({ length: 6 }, () => box.clone()));
  const made = clones.flatMap((it) => (it.status === 'fulfilled' ? [it.value] : []));
  expect(made).toHaveLength(1);
  expect(await runtime.list()).toHaveLength(2);
  await box.stop();
  await set({ boxes: null, runningBoxes: 1 });
  const starts = await Promise.allSettled([box.start(), made[0]?.start()]);
  expect(starts.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(await used('home', 'runningBoxes')).toMatchObject({ used: 1, limit: 1 });
  await set({ runningBoxes: null });
  await made[0]?.remove({ force: true });
  await box.start();
});

it('holds the limits of each tenant and of the home, whoever asks at once, and tells each its own', async () => {
  const [ann, bob] = [as('ann'), as('bob')];
  const layout = await writeTinyImage(await temporaryDirectory());
  for (const tenant of ['ann', 'bob'])
    await engine.runtime(tenant).images.import(layout, { reference: 'tiny' });
  // One is the owner's.
  await set({ boxes: 4 });
  await set({ boxes: 2 }, 'each-tenant');
  await set({ boxes: 1 }, { tenant: 'bob' });
  const make = (whose: Runtime): Promise<Box> => whose.create({ image: 'tiny', detach: true });
  const made = await Promise.allSettled([ann, bob, ann, bob, ann, bob].map(make));
  expect([(await ann.list()).length, (await bob.list()).length]).toEqual([2, 1]);
  const codes = made.flatMap((it) => (it.status === 'rejected' ? [it.reason] : []));
  expect(codes).toHaveLength(3);
  for (const error of codes) expect(error).toMatchObject({ code: 'resource_exhausted' });
  // Now the home as a whole is full, for its owner too.
  await refused(runtime.create({ image: 'tiny' }), 'boxes', 4, 4);
  expect(await used('tenant', 'boxes', bob)).toMatchObject({ used: 1, limit: 1 });
  expect((await bob.metrics()).uses.filter(({ scope }) => scope !== 'tenant')).toEqual([]);
  const response = await fetch(new URL('/metrics', url), { headers: { authorization: 'Bearer owner' } });
  const text = await response.text();
  expect(text).toMatch(/^cryobox_used\{scope="home",resource="boxes"\} 4$/m);
  expect(text).toMatch(/^cryobox_limit\{scope="home",resource="boxes"\} 4$/m);
});
