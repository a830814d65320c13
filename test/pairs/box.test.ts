import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, BoxStatus, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { isCryoboxError } from '../../src/errors.js';
import { Random } from '../control/random.js';
import { checkWhole } from '../crash/crash.js';
import { newHome, type TestHome } from '../support/home.js';
import { part } from '../support/part.js';
import { boxOperations, type Operation } from './box-operations.js';
import { allowedEnds, endText, type State } from './model.js';

const everything = process.env['CRYOBOX_PAIRS'] === 'all';
/** `npm test` begins elsewhere with each part, and is repeatable by it. */
const seed = Number(process.env['CRYOBOX_SEED'] || part);
const random = new Random(seed);
/** A part takes at most so long; what it does not come to is tried in other runs, which begin elsewhere. */
const partMs = 6_000;
/** The second operation begins so much later than the first: within all of what most of them take. */
const jitterMs = 400;

let home: TestHome;
let engine: Engine;
let runtime: Runtime;
/** The box that operations meet on, whatever its name is by now. */
let box: Box | undefined;
let tried = 0;

beforeAll(async () => {
  home = await newHome();
  await mkdir(join(home.path, 'out'));
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  runtime = engine.runtime();
});

afterAll(async () => {
  process.stdout.write(`${tried} pairs of operations met on one box, CRYOBOX_SEED=${seed}\n`);
  for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  await engine.close();
  await home[Symbol.asyncDispose]();
});

/** With a list, that its network can be changed while it runs. */
const request = { image: 'tiny', name: 'b', detach: true, network: { allowNet: ['*'] } };

/** A box `b` in a state, with the snapshot `s`, which has its memory; nothing else is there. */
async function prepare(status: BoxStatus): Promise<Box> {
  for (const { id } of await runtime.list()) if (id !== box?.id) await runtime.remove(id, { force: true });
  if (await runtime.templates.get('t')) await runtime.templates.remove('t');
  const isThere = box !== undefined && (await runtime.get(box.id)) !== null;
  if (!isThere || box === undefined) box = await runtime.create(request);
  if (await box.snapshot.get('n')) await box.snapshot.remove('n');
  if (!(await box.snapshot.get('s'))) {
    await bring(box, 'running');
    await box.snapshot.create('s', { memory: true });
  }
  await bring(box, status);
  return box;
}

async function bring(box: Box, status: BoxStatus): Promise<void> {
  const now = (await box.info()).status;
  if (now === status) return;
  if (status === 'stopped') return await box.stop();
  if (now === 'paused') await box.resume();
  else if (now !== 'running') await box.start();
  if (status === 'paused') await box.pause();
}

async function stateNow(box: Box): Promise<State> {
  const boxes = await runtime.list();
  const found = boxes.find(({ id }) => id === box.id);
  if (!found) return { status: 'gone', names: [] };
  expect(found.operation).toBeNull();
  const names = [
    ...(await box.snapshot.list()).map(({ name }) => name),
    ...boxes.flatMap(({ id, name }) => (id === box.id || name === null ? [] : name)),
    ...(await runtime.templates.list()).map(({ name }) => name),
  ];
  return { status: found.status, names: names.sort() };
}

async function outcomeOf(box: Box, operation: Operation, turn: number): Promise<string> {
  try {
    await operation.run({ runtime, box, directory: join(home.path, 'out'), turn });
    return 'done';
  } catch (error) {
    return isCryoboxError(error) ? error.code : `no error of ours: ${String(error)}`;
  }
}

/** Two operations at once: how they end is one of the ways in which one ends after the other. */
async function meet(first: Operation, second: Operation, status: BoxStatus): Promise<void> {
  const met = await prepare(status);
  const before: State = { status, names: ['s'] };
  const lateMs = random.below(jitterMs);
  const [one, other] = await Promise.all([
    outcomeOf(met, first, 0),
    delay(lateMs).then(() => outcomeOf(met, second, 1)),
  ]);
  tried += 1;
  const state = await stateNow(met);
  // What was made of a box outlives it.
  const names = state.status === 'gone' ? [] : state.names;
  const allowed = allowedEnds(first, second, before);
  expect([...allowed], `the second began after ${lateMs} ms`).toContain(
    endText(one, other, { ...state, names }),
  );
  if (state.status === 'gone') return;
  await bring(met, 'running');
  expect((await met.exec(['true'])).exitCode).toBe(0);
}

interface Pair {
  readonly names: readonly [string, string];
  readonly status: BoxStatus;
}

function allPairs(): Pair[] {
  const names = Object.keys(boxOperations);
  const pairs = names.flatMap((a) => names.map((b) => [a, b] as const));
  return (['running', 'stopped', 'paused'] as const).flatMap((status) =>
    pairs.map((both) => ({ names: both, status })),
  );
}

it('come to an end that the table of operations allows', {
  timeout: everything ? 14_400_000 : 300_000,
}, async () => {
  const left = allPairs();
  const failures: string[] = [];
  for (const until = performance.now() + partMs; left.length > 0; ) {
    if (!everything && performance.now() > until) break;
    const [pair] = left.splice(random.below(left.length), 1);
    const [first, second] = (pair?.names ?? []).map((name) => boxOperations[name]);
    if (!pair || !first || !second) throw new Error('no such operation');
    await meet(first, second, pair.status).catch((error: unknown) => {
      failures.push(`${pair.names.join(' and ')} on a box that is ${pair.status}: ${String(error)}`);
    });
  }
  expect(failures).toEqual([]);
  await (await prepare('stopped')).remove();
  await checkWhole(home.path, runtime);
});
