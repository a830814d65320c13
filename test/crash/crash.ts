import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, link, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { faultPoints } from '../../src/base/faults.js';
import { Engine } from '../../src/engine/index.js';
import { openChain } from '../../src/formats/qcow2/index.js';
import type { Database } from '../../src/store/index.js';
import { blockOffset, withDatabase } from '../engine/disk-files.js';
import { builtEntry } from '../support/built.js';
import { partOf } from '../support/part.js';

const driver = fileURLToPath(new URL('driver.mjs', import.meta.url));
/** No act takes longer, unless it hangs. */
const limitMs = 60_000;
/** Blocks of the model. */
const blockCount = 6;

/** A place where the engine is killed: the `hit`th time it passes `point`. */
export interface Kill {
  readonly point: string;
  readonly hit: number;
}

/** What users see of a home: boxes and snapshots with the data in their disks, volumes, and archives. */
export type View = Record<string, string>;

/** Whether every point is tried, or one part of them: all take an hour. */
const everyPoint = process.env.CRYOBOX_CRASH === 'all';
/** Every how many points one is tried. */
const partCount = 12;

/** Runs one act in an engine of its own; returns whether it was killed. Throws when it failed otherwise. */
export async function runDriver(plan: {
  home: string;
  act: string;
  kill?: Kill;
  trace?: string;
}): Promise<boolean> {
  const child = spawn(process.execPath, [driver, JSON.stringify(plan)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: limitMs,
    killSignal: 'SIGABRT',
  });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-4000);
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (signal === 'SIGKILL') return true;
  if (code !== 0) throw new Error(`${plan.act} ended with ${code ?? signal}: ${words}`);
  return false;
}

/** Compiles what the driver runs. */
export async function compile(): Promise<void> {
  await builtEntry('engine/index.ts');
}

/** The points an act passes, in order, each with how often it was passed before. */
export async function pointsOf(home: string, act: string): Promise<readonly Kill[]> {
  const trace = join(home, 'trace');
  expect(await runDriver({ home, act, trace })).toBe(false);
  const passed = (await readFile(trace, 'utf8')).trim().split('\n');
  await rm(trace);
  const hits = new Map<string, number>();
  const kills = passed.map((point) => {
    expect(faultPoints).toContain(point);
    const hit = (hits.get(point) ?? 0) + 1;
    hits.set(point, hit);
    return { point, hit };
  });
  return sample(kills);
}

/**
 * Kills of an engine with a machine. How often a point is passed depends there on what else goes on, so that an act ends
 * now and then before its kill; the home must be whole then, too.
 */
export class Kills {
  killed = 0;
  #missed = 0;

  /** Runs an act that is to be killed. */
  async run(plan: { home: string; act: string; kill: Kill }): Promise<void> {
    if (await runDriver(plan)) this.killed += 1;
    else this.#missed += 1;
  }

  /** Fails unless nearly all of them came. */
  check(): void {
    expect(this.killed).toBeGreaterThan(0);
    expect(this.#missed).toBeLessThanOrEqual(Math.ceil(this.killed / 10));
  }
}

/** How long the kills of one operation may take: a few seconds each, and there are up to a hundred. */
export const operationLimitMs = process.env.CRYOBOX_CRASH === 'all' ? 1_800_000 : 600_000;

/** All of a list when all is asked for, else a part of it, which is never empty. */
export function sample<T>(items: readonly T[]): readonly T[] {
  return everyPoint ? items : partOf(items, partCount);
}

/** Copies a home whose engine is closed. Sealed layers are linked: nothing writes them. */
export async function copyHome(from: string): Promise<string> {
  const to = await mkdtemp(`${from}-`);
  await copyTree(from, to);
  return to;
}

async function copyTree(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) {
      await mkdir(target);
      await copyTree(source, target);
    } else if (entry.isFile()) {
      const { mode } = await stat(source);
      if ((mode & 0o222) === 0) await link(source, target);
      else await copyFile(source, target);
    }
  }
}

/** What users of a home see now. */
export async function viewOf(home: string): Promise<View> {
  const view: View = {};
  await withDatabase(home, async (db) => {
    for (const box of await db.selectFrom('boxes').selectAll().execute()) {
      view[`box ${box.name}`] = `${box.status} ${await blocksOf(db, home, box.disk_head)}`;
      await blocksOf(db, home, box.guest_head);
    }
    const snapshots = db.selectFrom('snapshots').innerJoin('boxes', 'boxes.id', 'snapshots.box_id');
    for (const it of await snapshots.select(['snapshots.name', 'disk_layer', 'guest_layer']).execute()) {
      view[`snapshot ${it.name}`] = await blocksOf(db, home, it.disk_layer);
      await blocksOf(db, home, it.guest_layer);
    }
  });
  await withDatabase(home, async (db) => {
    for (const volume of await db.selectFrom('volumes').selectAll().execute()) {
      const { size } = await stat(join(home, 'layers', volume.layer_id));
      view[`volume ${volume.name}`] = `${size} of ${volume.size_bytes} bytes`;
    }
  });
  const out = await readdir(join(home, 'out')).catch(() => []);
  for (const name of out.filter((it) => it.endsWith('.boxsnap'))) view[`archive ${name}`] = 'there';
  return view;
}

/** The first byte of each block; throws unless a block holds one value only. */
async function blocksOf(db: Database, home: string, top: string): Promise<string> {
  const row = await db.selectFrom('layers').select('kind').where('id', '=', top).executeTakeFirstOrThrow();
  const topFormat = row.kind === 'raw' ? 'raw' : 'qcow2';
  await using chain = await openChain({ directory: join(home, 'layers'), top, topFormat });
  const values: number[] = [];
  if (chain.virtualSizeBytes < blockOffset(blockCount)) return 'small';
  for (let block = 0; block < blockCount; block += 1) {
    const bytes = await chain.read(blockOffset(block), 65_536);
    const [first = 0] = bytes;
    if (!bytes.equals(Buffer.alloc(bytes.length, first))) throw new Error(`block ${block} of ${top} is torn`);
    values.push(first);
  }
  return values.join(' ');
}

/** Opens the home a killed engine left, checks all of it, and leaves it closed and collected. */
export async function checkHome(
  home: string,
  expected: { old: View; new: View },
  probe: (engine: Engine) => Promise<void> = async () => undefined,
): Promise<void> {
  const view = await probed(home, expected, probe);
  // A chain may be being shortened behind the probe, and leave layers over at any moment: it has ended with its engine.
  await using engine = await Engine.open({ home, poolSize: 0 });
  await checkWhole(home, engine.runtime());
  expect(await viewOf(home)).toEqual(view);
}

/** What an engine finds in a home, which must be one of two states; it is used before the engine closes. */
async function probed(
  home: string,
  expected: { readonly old: unknown; readonly new: unknown },
  probe: (engine: Engine) => Promise<void>,
): Promise<unknown> {
  await using engine = await Engine.open({ home, poolSize: 0 });
  const view = await viewOf(home);
  expect([expected.old, expected.new]).toContainEqual(view);
  await probe(engine);
  return view;
}

/** Collects an open home: everything in it is sound then, and nothing is left over. */
export async function checkWhole(home: string, runtime: Runtime): Promise<void> {
  await runtime.gc();
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
  expect((await runtime.gc({ dryRun: true })).removed).toEqual([]);
  await expectNothingLeft(home);
}

async function expectNothingLeft(home: string): Promise<void> {
  const { layers, boxes, machines } = await withDatabase(home, async (db) => ({
    layers: await db.selectFrom('layers').select('id').execute(),
    boxes: await db.selectFrom('boxes').select('id').execute(),
    machines: await db.selectFrom('machines').select('id').execute(),
  }));
  const ids = (rows: readonly { id: string }[]): string[] => rows.map(({ id }) => id).sort();
  expect((await readdir(join(home, 'layers'))).sort()).toEqual(ids(layers));
  expect((await readdir(join(home, 'machines'))).sort()).toEqual(ids(machines));
  for (const name of await readdir(join(home, 'boxes'))) expect(ids(boxes)).toContain(name);
  expect(await readdir(join(home, 'scratch'))).toEqual([]);
  const out = await readdir(join(home, 'out')).catch(() => []);
  expect(out.filter((name) => !name.endsWith('.boxsnap'))).toEqual([]);
}
