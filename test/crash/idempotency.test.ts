import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { checkWhole, compile, type Kill, operationLimitMs, sample } from './crash.js';

const driver = fileURLToPath(new URL('serve-driver.mjs', import.meta.url));
let home: TestHome;
let archive: Buffer;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  await compile();
  home = await newHome();
  await mkdir(join(home.path, 'out'));
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().create({ image: 'tiny', name: 'b', detach: true });
  await box.files.write('/root/mark', 'still here');
  archive = await readFile(await box.export(join(home.path, 'out/')));
  // The first command makes what a fork goes on from settle.
  await box.exec(['true']);
}, 120_000);

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  {
    await using engine = await Engine.open({ home: home.path, poolSize: 0 });
    const runtime = engine.runtime();
    for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  }
  await home[Symbol.asyncDispose]();
});

/** A served home, and how to end it. */
interface Served {
  readonly url: string;
  readonly child: ChildProcess;
  readonly ended: Promise<string | null>;
}

async function serve(plan: { kill?: Kill; trace?: string }): Promise<Served> {
  const child = spawn(process.execPath, [driver, JSON.stringify({ home: home.path, ...plan })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  const ended = once(child, 'exit').then(([, signal]) => {
    children.delete(child);
    return signal as string | null;
  });
  const [line] = (await once(child.stdout as NonNullable<typeof child.stdout>, 'data')) as [Buffer];
  return { url: line.toString().trim(), child, ended };
}

async function end({ child, ended }: Served): Promise<void> {
  child.kill('SIGTERM');
  expect(await ended).toBeNull();
}

type Send = (url: string, key: string) => Promise<Response>;

const json = (path: string, body: object): Send => {
  return (url, key) =>
    fetch(`${url}/v1${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
    });
};

/** Boxes that the request made. */
async function made(url: string): Promise<string[]> {
  const { boxes } = (await (await fetch(`${url}/v1/boxes`)).json()) as {
    boxes: { box_id: string; name: string | null }[];
  };
  return boxes.filter(({ name }) => name !== 'b').map(({ box_id }) => box_id);
}

/** Removes what the request made, so that the next one begins as the first did. */
async function reset(url: string): Promise<void> {
  for (const id of await made(url)) await fetch(`${url}/v1/boxes/${id}?force=true`, { method: 'DELETE' });
}

async function pointsOf(send: Send): Promise<readonly Kill[]> {
  const trace = join(home.path, 'trace');
  // The first time writes more than all others.
  const first = await serve({});
  await send(first.url, randomUUID());
  await reset(first.url);
  await end(first);
  const served = await serve({ trace });
  expect((await send(served.url, randomUUID())).status).toBe(201);
  const passed = (await readFile(trace, 'utf8')).trim().split('\n');
  await end(served);
  await rm(trace);
  const hits = new Map<string, number>();
  return passed.map((point) => {
    const hit = (hits.get(point) ?? 0) + 1;
    hits.set(point, hit);
    return { point, hit };
  });
}

/** Kills the engine under a request at some of its points; the request is sent again, and made once in all. */
async function killEverywhere(send: Send, boxes: number): Promise<void> {
  const points = await pointsOf(send);
  const last = points.filter(({ point }) => point.startsWith('answer.keep'));
  expect(last.length).toBe(2);
  const others = points.filter((kill) => !last.includes(kill));
  let killed = 0;
  const chosen = [...sample(sample(others)), ...last];
  for (const kill of chosen) {
    const key = randomUUID();
    const before = await serve({});
    await reset(before.url);
    await end(before);
    try {
      const first = await serve({ kill });
      const lost = await send(first.url, key).then(
        (answer) => answer.text(),
        () => null,
      );
      // How often a point is passed depends on what else goes on.
      if (lost !== null) await end(first);
      else killed += 1;
      await first.ended;
      const second = await serve({});
      const answer = await send(second.url, key);
      const text = await answer.text();
      expect([answer.status, text]).toEqual([201, expect.any(String)]);
      const ids = await made(second.url);
      expect(ids.length).toBe(boxes);
      for (const id of ids) expect(text).toContain(id);
      const again = await send(second.url, key);
      if (lost !== null) expect(text).toBe(lost);
      expect(again.headers.get('idempotency-replayed')).toBe('true');
      expect(await again.text()).toBe(text);
      expect((await made(second.url)).length).toBe(boxes);
      await end(second);
    } catch (error) {
      throw new Error(`killed at ${kill.point}@${kill.hit}`, { cause: error });
    }
  }
  expect(killed).toBeGreaterThan(chosen.length / 2);
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  await checkWhole(home.path, engine.runtime());
}

it('a create with a key that is sent again makes one box, wherever its engine was killed', {
  timeout: operationLimitMs,
}, async () => {
  await killEverywhere(json('/boxes', { image: 'tiny' }), 1);
});

it('so does an import', { timeout: operationLimitMs }, async () => {
  const send: Send = (url, key) =>
    fetch(`${url}/v1/boxes/import`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream', 'idempotency-key': key },
      body: new Uint8Array(archive),
    });
  await killEverywhere(send, 1);
});

it('and a fork makes its children once', { timeout: operationLimitMs }, async () => {
  await killEverywhere(json('/boxes/b/fork', { count: 2 }), 2);
});

it('keeps the answer for a server that is opened later, and refuses the key for another request', async () => {
  const key = randomUUID();
  const first = await serve({});
  await reset(first.url);
  const send = json('/boxes', { image: 'tiny', name: 'kept' });
  const text = await (await send(first.url, key)).text();
  await end(first);
  const second = await serve({});
  await fetch(`${second.url}/v1/boxes/kept?force=true`, { method: 'DELETE' });
  expect(await (await send(second.url, key)).text()).toBe(text);
  expect(await made(second.url)).toEqual([]);
  const other = await json('/boxes', { image: 'tiny', name: 'other' })(second.url, key);
  expect([other.status, await other.json()]).toMatchObject([400, { error: { code: 'invalid_argument' } }]);
  await end(second);
});
