import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { isCryoboxError } from '../../src/errors.js';
import { Random } from '../control/random.js';
import { checkWhole } from '../crash/crash.js';
import { newHome, type TestHome } from '../support/home.js';
import { part } from '../support/part.js';
import { writeTinyImage } from '../support/tiny-image.js';

/** An operation on an image, a template or a volume: what it does, and how it may end when it meets another. */
type Operation = readonly [run: (runtime: Runtime) => Promise<unknown>, codes: readonly string[]];

const everything = process.env['CRYOBOX_PAIRS'] === 'all';
/** `npm test` begins elsewhere with each part, and is repeatable by it. */
const seed = Number(process.env['CRYOBOX_SEED'] || part);
const random = new Random(seed);
/** A part takes at most so long a table; what it does not come to is tried in other runs, which begin elsewhere. */
const partMs = 1_000;
const jitterMs = 200;
/** Nobody listens there: an image that is gone cannot be pulled again. */
const reference = 'localhost:1/other';
/** Where the image lies that is imported. */
let imageDirectory: string;

const volumes: Readonly<Record<string, Operation>> = {
  create: [(runtime) => runtime.volumes.create({ name: 'vol', sizeGb: 1 }), ['already_exists']],
  remove: [(runtime) => runtime.volumes.remove('vol'), ['not_found', 'invalid_state']],
  'create of a box': [
    (runtime) => {
      const mounts = [{ volume: 'vol', guestPath: '/mnt/v' }];
      return runtime.create({ image: 'tiny', name: 'x', volumes: mounts, detach: true });
    },
    ['already_exists', 'not_found', 'conflict'],
  ],
  'remove of a box': [(runtime) => runtime.remove('x', { force: true }), ['not_found']],
  get: [(runtime) => runtime.volumes.get('vol'), []],
};

const images: Readonly<Record<string, Operation>> = {
  import: [(runtime) => runtime.images.import(imageDirectory, { reference: reference }), []],
  remove: [(runtime) => runtime.images.remove(reference, { force: true }), ['image_not_found', 'not_found']],
  prune: [(runtime) => runtime.images.prune(), []],
  'create of a box': [
    (runtime) => runtime.create({ image: reference, name: 'x', detach: true }),
    ['already_exists', 'image_not_found', 'network_unavailable', 'not_found'],
  ],
  gc: [(runtime) => runtime.gc(), []],
};

const templates: Readonly<Record<string, Operation>> = {
  create: [(runtime) => runtime.templates.create({ box: 'b', name: 't' }), ['already_exists']],
  'create over': [(runtime) => runtime.templates.create({ box: 'b', name: 't', overwrite: true }), []],
  remove: [(runtime) => runtime.templates.remove('t'), ['not_found']],
  'create of a box': [
    (runtime) => runtime.create({ template: 't', name: 'x', detach: true }),
    ['already_exists', 'not_found'],
  ],
  gc: [(runtime) => runtime.gc(), []],
};

let home: TestHome;
let engine: Engine;
let runtime: Runtime;

beforeAll(async () => {
  imageDirectory = await mkdtemp(join(tmpdir(), 'cryobox-pairs-'));
  await writeTinyImage(imageDirectory);
  home = await newHome();
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  runtime = engine.runtime();
  await runtime.create({ image: 'tiny', name: 'b', detach: true });
});

afterAll(async () => {
  for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  await engine.close();
  await home[Symbol.asyncDispose]();
  await rm(imageDirectory, { recursive: true });
});

async function problemOf(name: string, [run, codes]: Operation): Promise<string | undefined> {
  try {
    await run(runtime);
    return undefined;
  } catch (error) {
    if (isCryoboxError(error) && codes.includes(error.code)) return undefined;
    return `${name} failed with ${isCryoboxError(error) ? error.code : 'no error of ours'}: ${String(error)}`;
  }
}

/** Two operations at once; afterwards everything that is there is whole. */
async function meet(
  table: Readonly<Record<string, Operation>>,
  names: readonly [string, string],
): Promise<string[]> {
  if (await runtime.get('x')) await runtime.remove('x', { force: true });
  const [first, second] = [table[names[0]], table[names[1]]];
  if (!first || !second) throw new Error('no such operation');
  const problems = await Promise.all([
    problemOf(names[0], first),
    delay(random.below(jitterMs)).then(() => problemOf(names[1], second)),
  ]);
  const found = problems.flatMap((problem) => problem ?? []);
  const box = await runtime.get('x');
  if (box && (await box.exec(['true'])).exitCode !== 0) found.push('the box does not work');
  return found.map((problem) => `${names.join(' and ')}: ${problem}`);
}

it.each([
  ['a volume', volumes],
  ['an image', images],
  ['a template', templates],
] as const)('meet on %s without harm', { timeout: everything ? 3_600_000 : 240_000 }, async (what, table) => {
  const names = Object.keys(table);
  const left = names.flatMap((a) => names.map((b) => [a, b] as const));
  const problems: string[] = [];
  let tried = 0;
  for (const until = performance.now() + partMs; left.length > 0; tried += 1) {
    if (!everything && performance.now() > until) break;
    const [pair] = left.splice(random.below(left.length), 1);
    if (pair) problems.push(...(await meet(table, pair)));
  }
  process.stdout.write(`${tried} pairs of operations met on ${what}, CRYOBOX_SEED=${seed}\n`);
  expect(problems).toEqual([]);
  if (await runtime.get('x')) await runtime.remove('x', { force: true });
  await checkWhole(home.path, runtime);
});
