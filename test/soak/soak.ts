import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent } from 'undici';
import type { Runtime } from '../../src/api/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { type Holdings, holdingsOf, lastingLeaks } from '../control/holdings.js';
import { Random } from '../control/random.js';
import { withDatabase } from '../engine/disk-files.js';
import { builtEntry } from '../support/built.js';
import { newHome } from '../support/home.js';
import { restOperations } from './rest-operations.js';
import { checkLines, sdkOperations } from './sdk-operations.js';
import { KilledEngine } from './served-engine.js';
import { World } from './world.js';

/** How a soak is run. */
export interface SoakOptions {
  readonly minutes: number;
  /** Decides what each client does; how it meets the others depends on the host. */
  readonly seed: number;
}

/** What a soak found. */
export interface SoakReport {
  readonly operations: number;
  readonly faults: number;
  readonly lost: readonly string[];
  readonly leaked: readonly string[];
  /** Outcomes that must not be, engines that died by themselves, operations that hang. */
  readonly wrong: readonly string[];
  /** Operations with how often they ended how. */
  readonly outcomes: string;
}

/** No operation takes longer on a busy host, unless it hangs. */
const hangMs = 180_000;
/** Between two faults: long enough for work to get somewhere. */
const faultMs = [2_000, 6_000] as const;

/** How long the client over plain HTTP waits where nobody answers. */
const restRetryMs = 500;

/** Three clients do what they like to the same boxes while machines, page servers and engines are killed. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  await builtEntry('home/serve-http.ts');
  await using home = await newHome();
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-soak-'));
  const engine = await KilledEngine.start(home.path);
  try {
    return await soakOver(options, { home: home.path, directory, engine });
  } finally {
    await engine.close();
    await rm(directory, { recursive: true, force: true });
  }
}

interface Stage {
  readonly home: string;
  readonly directory: string;
  readonly engine: KilledEngine;
}

async function soakOver(options: SoakOptions, stage: Stage): Promise<SoakReport> {
  const { engine, home, directory } = stage;
  const world = new World();
  const before = await baseline(stage);
  const until = performance.now() + options.minutes * 60_000;
  const isOver = (): boolean => performance.now() > until || engine.deaths.length > 0;
  const clients: Promise<void>[] = [];
  const runtimes = [1, 2].map(() => connectRuntime({ socketPath: join(home, 'engine.sock') }));
  for (const [i, runtime] of runtimes.entries()) {
    const random = new Random(options.seed + i);
    const client = `sdk${i}`;
    clients.push(
      looping(isOver, async (number) => {
        const [name, [, run]] = chosen(sdkOperations, random);
        await world.run(name, () => run({ runtime, world, random, client, number, directory }));
      }),
    );
  }
  const rest = { base: `${engine.url}/v1`, random: new Random(options.seed + 2), agent: new Agent() };
  clients.push(
    looping(isOver, async () => {
      const [name, [, run]] = chosen(restOperations, rest.random);
      const outcome = await world.run(`rest ${name}`, () => run(rest));
      // It does not wait for the next engine by itself.
      if (outcome === 'network_unavailable') await delay(restRetryMs);
    }),
  );
  const injecting = injectFaults(isOver, { ...stage, world, random: new Random(options.seed + 3) });
  const hanging = await allEnded([...clients, injecting], world);
  if (hanging.length === 0 && engine.deaths.length === 0) await lastCheck(stage, world);
  // A connection that a client keeps is none that the engine leaks.
  await Promise.all([...runtimes.map((it) => it.close()), rest.agent.destroy()]);
  const leaked = hanging.length > 0 || engine.deaths.length > 0 ? [] : await leaksAfterRemoval(stage, before);
  return {
    operations: world.operations,
    faults: world.faults,
    lost: world.lost,
    leaked,
    wrong: [...world.wrong, ...engine.deaths, ...hanging.map((it) => `${it} hangs`)],
    outcomes: outcomesOf(world),
  };
}

async function looping(isOver: () => boolean, turn: (number: number) => Promise<void>): Promise<void> {
  for (let number = 0; !isOver(); number += 1) await turn(number);
}

/** Waits for all; returns what hangs, if anything does. */
async function allEnded(tasks: readonly Promise<void>[], world: World): Promise<readonly string[]> {
  let isDone = false;
  const all = Promise.all(tasks).then(() => {
    isDone = true;
  });
  for (;;) {
    await Promise.race([all, delay(1000)]);
    if (isDone) return [];
    const hanging = world.hanging(hangMs);
    if (hanging.length > 0) return hanging;
  }
}

function chosen<T extends readonly [number, unknown]>(
  table: Readonly<Record<string, T>>,
  random: Random,
): [string, T] {
  const entries = Object.entries(table);
  let rest = random.below(entries.reduce((sum, [, [weight]]) => sum + weight, 0));
  for (const entry of entries) {
    rest -= entry[1][0];
    if (rest < 0) return entry;
  }
  throw new Error('weights do not add up');
}

/** Kills a machine, a page server or the engine, again and again. */
async function injectFaults(
  isOver: () => boolean,
  stage: Stage & { readonly world: World; readonly random: Random },
): Promise<void> {
  const { world, random, home, engine } = stage;
  for (;;) {
    const waitMs = faultMs[0] + random.below(faultMs[1] - faultMs[0]);
    for (let waited = 0; waited < waitMs && !isOver(); waited += 100) await delay(100);
    if (isOver()) return;
    if (random.below(3) === 0) {
      await engine.kill();
      world.faults += 1;
      continue;
    }
    const machines = await withDatabase(home, (db) =>
      db
        .selectFrom('machines')
        .select(['box_id', 'pid', 'pager_pid'])
        .where('box_id', 'is not', null)
        .execute(),
    );
    const machine = machines[random.below(Math.max(1, machines.length))];
    if (!machine) continue;
    world.box(machine.box_id ?? '').killed = true;
    if (end(machine.pager_pid !== null && random.below(2) === 0 ? machine.pager_pid : machine.pid)) {
      world.faults += 1;
    }
  }
}

function end(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    // It has ended by itself.
    return false;
  }
}

/** What the home and the engine hold with nothing in them. */
async function baseline({ engine, home }: Stage): Promise<Holdings> {
  await using runtime = connectRuntime({ socketPath: join(home, 'engine.sock') });
  await runtime.gc();
  await mkdir(join(home, 'boxes'), { recursive: true });
  await runtime.close();
  return await holdingsOf(home, engine.pid);
}

/** Every box is brought up once more, so that what is in it is seen. */
async function lastCheck({ home }: Stage, world: World): Promise<void> {
  await using runtime = connectRuntime({ socketPath: join(home, 'engine.sock') });
  await world.run('lists', () => sdkOperations['lists']?.[1](turnOf(runtime, world)) ?? Promise.resolve());
  for (const { id } of await runtime.list()) {
    await world.run('last check', async () => {
      const box = await runtime.get(id);
      if (!box) throw new Error(`box ${id} is in the list, and cannot be got`);
      const { status, failure } = await box.info();
      // What an undecided box wrote last is on its newest disks.
      if (status === 'failed' || failure !== null) await box.start({ discardMemory: true });
      await checkLines(world, { box, known: world.box(id) });
      await box.remove({ force: true });
    });
  }
}

function turnOf(runtime: Runtime, world: World) {
  return { runtime, world, random: new Random(0), client: 'last', number: 0, directory: '' };
}

/** Removes everything; what is left then was leaked. */
async function leaksAfterRemoval({ engine, home }: Stage, before: Holdings): Promise<readonly string[]> {
  {
    await using runtime = connectRuntime({ socketPath: join(home, 'engine.sock') });
    for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
    for (const { name } of await runtime.templates.list()) await runtime.templates.remove(name);
    for (const { name } of await runtime.volumes.list()) await runtime.volumes.remove(name);
    await runtime.gc();
    const { problems } = await runtime.verify();
    if (problems.length > 0) return problems.map(({ what, problem }) => `${what}: ${problem}`);
  }
  return await lastingLeaks(before, home, engine.pid);
}

function outcomesOf(world: World): string {
  const lines = [...world.outcomes].sort(([a], [b]) => (a < b ? -1 : 1));
  return lines
    .map(([name, codes]) => `${name}: ${[...codes].map(([code, n]) => `${code} ${n}`).join(', ')}`)
    .join('\n');
}
