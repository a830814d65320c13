import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  allHolds,
  bytesOf,
  type Database,
  deleteUnusedMemories,
  findBoxes,
  hold,
  holdersOf,
  insertLayers,
  insertMachine,
  insertMemory,
  type LayerRow,
  layerUses,
  type MemoryRow,
  openDatabase,
  replaceWorkingSet,
  takeGarbage,
} from '../../src/store/index.js';

/** More than SQLite takes parameters of one statement. */
const many = 33_000;

let directory: string;
let db: Database;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-rows-'));
  db = await openDatabase(join(directory, 'db'));
});

afterAll(async () => {
  await db.destroy();
  await rm(directory, { recursive: true });
});

/** How many layers each holder of a kind has, by its id. */
async function countHolds(of: Database, kind: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { holder } of await allHolds(of)) {
    if (!holder.startsWith(`${kind}:`)) continue;
    const id = holder.slice(kind.length + 1);
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

function layer(id: string, parent_id: string | null = null): LayerRow {
  const facts = { kind: 'qcow2', state: 'sealed', virtual_bytes: 0, size_bytes: 10, sha256: null };
  return { id, parent_id, created_at: 0, ...facts };
}

function memory(id: string, layerId: string): MemoryRow {
  const layers = { layer_id: layerId, state_layer: layerId, guest_layer: layerId, disk_layer: layerId };
  const machine = {
    cpus: 1,
    memory_mib: 128,
    accelerator: 'tcg',
    machine_type: 'm',
    cpu_model: 'c',
    devices: 1,
  };
  const versions = { golden_key: 'g', qemu_version: 'q', kernel_version: 'k', assets_key: 'a' };
  return {
    id,
    created_at: 0,
    ...layers,
    working_set: null,
    volumes: '[]',
    run: 'r',
    ...machine,
    ...versions,
  };
}

/** Runs a task that is taken back, so that each test begins with an empty database. */
async function rolledBack(task: (tx: Database) => Promise<void>): Promise<void> {
  const over = new Error('over');
  const run = db.transaction().execute(async (tx) => {
    await task(tx);
    throw over;
  });
  await expect(run).rejects.toBe(over);
}

it(
  'finds, holds and measures more rows than a statement has parameters',
  () =>
    rolledBack(async (tx) => {
      const ids = Array.from({ length: many }, (_, i) => `lay_${i}`);
      await insertLayers(
        tx,
        ids.map((id) => layer(id)),
      );
      await hold(tx, 'image:a', ids);
      // A second time changes nothing.
      await hold(tx, 'image:a', ids);
      await hold(tx, 'imaged:b' as 'image:b', ids.slice(0, 1));
      expect(await countHolds(tx, 'image')).toEqual(new Map([['a', many]]));
      expect(await holdersOf(tx, 'image', ids)).toEqual(['a']);
      expect(await bytesOf(tx, ids)).toBe(10 * many);
      expect((await layerUses(tx, ids)).size).toBe(many);
      expect(await findBoxes(tx, '', ids)).toEqual([]);
    }),
  60_000,
);

it('takes all garbage at once, parents and children, and nothing that a held layer stands on', async () => {
  const garbage = Array.from({ length: many }, (_, i) => layer(`gone_${i}`, i === 0 ? null : 'gone_0'));
  await insertLayers(db, [layer('base'), layer('held', 'base'), ...garbage]);
  await hold(db, 'box:b', ['held']);
  expect(await takeGarbage(db, true)).toHaveLength(many);
  expect(await takeGarbage(db, false)).toHaveLength(many);
  expect(await takeGarbage(db, false)).toEqual([]);
  expect([...(await layerUses(db, ['held'])).keys()].sort()).toEqual(['base', 'held']);
}, 60_000);

it('forgets memories that nothing refers to, and what they held, however many there are', async () => {
  await insertLayers(db, [layer('pages'), layer('set'), layer('other-set')]);
  const machine = {
    base_layer: null,
    pager_pid: null,
    pager_ticks: null,
    gateway_pid: null,
    gateway_ticks: null,
    gateway_token: null,
    pid: 1,
    start_ticks: 1,
  };
  const gateway = { gateway_pid: null, gateway_ticks: null, gateway_token: null };
  const process = { host_boot: 'h', uid: null, gid: null, created_at: 0, box_id: null };
  await db.transaction().execute(async (tx) => {
    for (let i = 0; i < many; i += 1) {
      await insertMemory(tx, memory(`mem_${i}`, 'pages'), ['pages']);
      await insertMachine(tx, { id: `mch_${i}`, memory_id: `mem_${i}`, ...machine, ...gateway, ...process });
    }
    await insertMemory(tx, memory('mem_gone', 'pages'), ['pages']);
    await hold(tx, 'machine:mch_gone', ['pages']);
    await hold(tx, 'machine:mch_0', ['pages']);
  });
  await replaceWorkingSet(db, { id: 'mem_0', working_set: null }, 'set');
  await replaceWorkingSet(db, { id: 'mem_0', working_set: 'set' }, 'other-set');
  await deleteUnusedMemories(db);
  const held = await countHolds(db, 'memory');
  expect([held.size, held.get('mem_0'), held.has('mem_gone')]).toEqual([many, 2, false]);
  expect(await countHolds(db, 'machine')).toEqual(new Map([['mch_0', 1]]));
}, 120_000);

it('counts who needs a layer to two, and follows chains to their base', async () => {
  const children = Array.from({ length: 5 }, (_, i) => layer(`child_${i}`, 'root'));
  await insertLayers(db, [layer('root'), ...children]);
  for (const kind of ['box:x', 'box:y', 'image:z'] as const) await hold(db, kind, ['root']);
  await hold(db, 'box:x', ['child_0']);
  const uses = await layerUses(db, ['child_0']);
  expect(uses.get('root')).toMatchObject({ parentId: null, holders: 2, children: 2, sizeBytes: 10 });
  expect(uses.get('child_0')).toMatchObject({ parentId: 'root', holders: 1, children: 0 });
  expect(uses.size).toBe(2);
});
