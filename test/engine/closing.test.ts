import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, BoxStatus, Runtime } from '../../src/api/index.js';
import type { Logger } from '../../src/base/log.js';
import { Engine } from '../../src/engine/index.js';
import { isCryoboxError } from '../../src/errors.js';
import { openSqlite } from '../../src/store/index.js';
import { Random } from '../control/random.js';
import { checkWhole } from '../crash/crash.js';
import { TestRegistry } from '../image/support/registry.js';
import { newHome, type TestHome } from '../support/home.js';
import { partOf } from '../support/part.js';
import { writeTinyImage } from '../support/tiny-image.js';
import { failureOf, output } from './support.js';

const everything = process.env['CRYOBOX_CLOSING'] === 'all';
/** Every how many closings one is tried; all take some minutes. */
const partCount = 21;
const seed = Number(process.env['CRYOBOX_SEED'] || Date.now() % 1_000_000);
const random = new Random(seed);
/** Engines are closed so much later than the operation begins: at once, and within what most of them take. */
const jitterMs = 400;

interface Subject {
  readonly runtime: Runtime;
  readonly box: Box;
  readonly directory: string;
  readonly image: string;
}

/** An operation under way when its engine closes, and the state that the box is in before and after it. */
interface Act {
  readonly from: BoxStatus;
  readonly to?: BoxStatus;
  readonly run: (subject: Subject) => Promise<unknown>;
}

const acts: Readonly<Record<string, Act>> = {
  exec: { from: 'running', run: ({ box }) => box.exec(['sleep', '0.2']) },
  'copy to the box': {
    from: 'running',
    run: ({ box }) => box.files.write('/root/copy', Buffer.alloc(8_000_000)),
  },
  'copy from the box': { from: 'running', run: ({ box }) => box.files.read('/root/noise') },
  pull: { from: 'running', run: ({ runtime, image }) => runtime.images.pull(image) },
  snapshot: { from: 'running', run: ({ box }) => box.snapshot.create('s') },
  'snapshot with memory': { from: 'running', run: ({ box }) => box.snapshot.create('m', { memory: true }) },
  fork: { from: 'running', run: ({ box }) => box.fork({ count: 1, names: ['f'] }) },
  clone: { from: 'running', run: ({ box }) => box.clone('c', { cow: false }) },
  export: { from: 'running', run: ({ box, directory }) => box.export(join(directory, 'e.boxsnap')) },
  create: {
    from: 'running',
    run: ({ runtime }) => runtime.create({ image: 'tiny', name: 'n', detach: true }),
  },
  pause: { from: 'running', to: 'paused', run: ({ box }) => box.pause() },
  resume: { from: 'paused', to: 'running', run: ({ box }) => box.resume() },
  stop: { from: 'running', to: 'stopped', run: ({ box }) => box.stop() },
  start: { from: 'stopped', to: 'running', run: ({ box }) => box.start() },
};

let home: TestHome;
let directory: string;
let registry: TestRegistry;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-closing-'));
  registry = await TestRegistry.start({ directory: join(directory, 'registry') });
  const layout = join(directory, 'layout');
  await mkdir(layout);
  await writeTinyImage(layout, { files: { noise: randomBytes(2_000_000).toString('hex') } });
  await registry.push(`oci:${layout}`, 'closing:1');
  home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().create({ image: 'tiny', name: 'b', detach: true });
  await box.files.write('/root/mark', 'still here');
  await output(box, 'head -c 8000000 /dev/urandom > /root/noise; sync');
});

afterAll(async () => {
  process.stdout.write(`engines were closed beside operations, CRYOBOX_SEED=${seed}\n`);
  {
    await using engine = await Engine.open({ home: home.path, poolSize: 0 });
    for (const { id } of await engine.runtime().list()) await engine.runtime().remove(id, { force: true });
  }
  await home[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** `done`, or the code of the failure. */
async function outcomeOf(call: Promise<unknown>): Promise<string> {
  try {
    const result = await call;
    const [first] = Array.isArray(result) ? (result as { error?: unknown }[]) : [];
    if (first?.error) throw first.error;
    return 'done';
  } catch (error) {
    return isCryoboxError(error) ? error.code : `no error of ours: ${String(error)}`;
  }
}

async function bring(box: Box, status: BoxStatus): Promise<void> {
  const now = (await box.info()).status;
  if (now === status) return;
  if (status === 'stopped') return await box.stop();
  if (now === 'paused') await box.resume();
  else if (now !== 'running') await box.start();
  if (status === 'paused') await box.pause();
}

/** Removes what acts made. */
async function reset(runtime: Runtime, box: Box, image: string): Promise<void> {
  for (const { id } of await runtime.list()) if (id !== box.id) await runtime.remove(id, { force: true });
  for (const { name } of await box.snapshot.list()) await box.snapshot.remove(name);
  if (await runtime.images.get(image)) await runtime.images.remove(image);
}

/** Begins an operation, and closes its engine so much later. The next engine finds a home that is whole. */
async function closeDuring(name: string, { from, to = from, run }: Act, lateMs: number): Promise<void> {
  const what = `${name}, closed after ${lateMs} ms`;
  const image = `${registry.name}/closing:1`;
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  const box = (await runtime.get('b')) as Box;
  await reset(runtime, box, image);
  await bring(box, from);
  let ended = false;
  const calling = outcomeOf(run({ runtime, box, directory, image })).finally(() => {
    ended = true;
  });
  if (lateMs > 0) await delay(lateMs);
  await engine.close();
  expect(ended, `${what}: nothing is under way when the home is let go of`).toBe(true);
  const outcome = await calling;
  expect(['done', 'engine_unavailable'], what).toContain(outcome);
  // What comes later finds an engine that has closed.
  for (const late of [runtime.list(), box.info(), box.exec(['true']), runtime.create({ image: 'tiny' })]) {
    expect(await failureOf(late)).toMatchObject({ code: 'engine_unavailable' });
  }

  await using next = await Engine.open({ home: home.path, poolSize: 0 });
  const again = next.runtime();
  const same = (await again.get('b')) as Box;
  expect(outcome === 'done' ? [to] : [from, to], what).toContain((await same.info()).status);
  await checkWhole(home.path, again);
  expect(await output(same, 'cat /root/mark'), what).toBe('still here');
}

/** Every operation at once and a moment later, when it has begun to change something. */
const cases = Object.entries(acts).flatMap(([name, act]) =>
  [0, 1 + random.below(jitterMs), 1 + random.below(jitterMs)].map((lateMs) => ({ name, act, lateMs })),
);

it.each(everything ? cases : partOf(cases, partCount))(
  'lets a $name come to its end when the engine closes after $lateMs ms, or rolls it back',
  { timeout: 240_000 },
  ({ name, act, lateMs }) => closeDuring(name, act, lateMs),
);

/** Bytes that come slowly, for ever. */
async function* dribble(onChunk: (count: number) => void): AsyncGenerator<Uint8Array> {
  for (let count = 1; ; count += 1) {
    onChunk(count);
    yield Buffer.from('x');
    await delay(20);
  }
}

it('ends a pause that waits for a copy, and the copy', { timeout: 50_000 }, async () => {
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = (await engine.runtime().get('b')) as Box;
  await bring(box, 'running');
  let begun = (): void => undefined;
  const hasBegun = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const bytes = dribble((count) => count === 3 && begun());
  const copying = outcomeOf(box.files.write('/root/slow', bytes));
  await hasBegun;
  const pausing = outcomeOf(box.pause());
  await engine.close();
  expect([await copying, await pausing]).toEqual(['engine_unavailable', 'engine_unavailable']);
});

it('tells a command that the engine has closed, and leaves it running', { timeout: 120_000 }, async () => {
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = (await engine.runtime().get('b')) as Box;
  const execution = await box.startExec(['sleep', '777']);
  const waiting = failureOf(execution.wait());
  await engine.close();
  expect(await waiting).toMatchObject({ code: 'engine_unavailable' });
  await using next = await Engine.open({ home: home.path, poolSize: 0 });
  const again = (await next.runtime().get('b')) as Box;
  expect((await again.executions.list()).filter(({ status }) => status === 'running')).toHaveLength(1);
});

it('lets go of the home although a step fails, and to all who wait for it', {
  timeout: 120_000,
}, async () => {
  let isBroken = false;
  const broken = (): void => {
    if (isBroken) throw new Error('this logger is broken');
  };
  const logger: Logger = { debug: broken, info: broken, warn: broken, error: broken };
  const engine = await Engine.open({ home: home.path, poolSize: 0, logger });
  const box = (await engine.runtime().get('b')) as Box;
  await box.exec(['true']);
  isBroken = true;
  // What the engine writes when it closes cannot be written any more.
  const other = await openSqlite(join(home.path, 'cryobox.db'));
  other.exec("create trigger broken before insert on counters begin select raise(abort, 'refused'); end");
  await Promise.all([engine.close(), engine.close()]);
  other.exec('drop trigger broken');
  other.close();
  await using next = await Engine.open({ home: home.path, poolSize: 0 });
  expect((await next.runtime().get('b'))?.name).toBe('b');
});
