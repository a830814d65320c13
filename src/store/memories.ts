import type { Database } from './database.js';
import { hold, holdersOf, holdOnly, releaseLayer } from './holds.js';
import type { MemoryRow } from './schema.js';
import { noteFinished, noteUnfinished } from './unfinished.js';
import { valuesOf } from './values.js';

/** The stored memory, if there is one. */
export async function findMemory(db: Database, id: string): Promise<MemoryRow | undefined> {
  return await db.selectFrom('memories').selectAll().where('id', '=', id).executeTakeFirst();
}

/** The layers that a memory needs, given those its map names. */
export function layersOfMemory(memory: MemoryRow, pageLayers: readonly string[]): string[] {
  const { state_layer, guest_layer, disk_layer, working_set } = memory;
  const others = working_set === null ? [] : [working_set];
  return [...new Set([...pageLayers, state_layer, guest_layer, disk_layer, ...others])];
}

/** Stores a memory and what it needs: the layers of pages given, and what its row names. */
export async function insertMemory(
  tx: Database,
  memory: MemoryRow,
  pageLayers: readonly string[],
): Promise<void> {
  await tx.insertInto('memories').values(memory).execute();
  await hold(tx, `memory:${memory.id}`, layersOfMemory(memory, pageLayers));
}

/** The memories that hold at least one of the layers, but those whose own layer of pages is `exceptLayer`. */
export async function memoriesHolding(
  db: Database,
  layerIds: readonly string[],
  exceptLayer: string,
): Promise<MemoryRow[]> {
  return await db
    .selectFrom('memories')
    .selectAll()
    .where('id', 'in', valuesOf(await holdersOf(db, 'memory', layerIds)))
    .where('layer_id', '!=', exceptLayer)
    .execute();
}

/**
 * Gives a memory other pages of the same content, and the layers they need beside those it had until
 * {@link releaseReplaced}. Returns false, and changes nothing, when it is gone or has other pages than `memory` says.
 */
export async function replacePages(
  tx: Database,
  memory: Pick<MemoryRow, 'id' | 'layer_id'>,
  pageLayers: readonly string[],
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('memories')
    .set({ layer_id: pageLayers[0] ?? '' })
    .where('id', '=', memory.id)
    .where('layer_id', '=', memory.layer_id)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return false;
  await hold(tx, `memory:${memory.id}`, pageLayers);
  await noteUnfinished(tx, 'memory', memory.id);
  return true;
}

/** Makes a memory hold what it needs now and nothing of before, unless its pages were replaced since `memory` was read. */
export async function releaseReplaced(
  tx: Database,
  memory: Pick<MemoryRow, 'id' | 'layer_id'>,
  pageLayers: readonly string[],
): Promise<void> {
  const now = await findMemory(tx, memory.id);
  // Replaced once more meanwhile: that merge lets go of what was before it.
  if (now?.layer_id !== memory.layer_id) return;
  await holdOnly(tx, `memory:${memory.id}`, layersOfMemory(now, pageLayers));
  await noteFinished(tx, 'memory', [memory.id]);
}

/** A memory and the one that a box is paused as, as far as they are there. */
export async function memoryAndThatOfBox(
  db: Database,
  memoryId: string,
  boxId: string,
): Promise<MemoryRow[]> {
  return await db
    .selectFrom('memories')
    .selectAll()
    .where((q) =>
      q.or([
        q('id', '=', memoryId),
        q(
          'id',
          'in',
          q.selectFrom('boxes').select('memory_id').where('id', '=', boxId).$castTo<{ memory_id: string }>(),
        ),
      ]),
    )
    .execute();
}

/** Gives a memory another working set. */
export async function replaceWorkingSet(
  tx: Database,
  { id, working_set }: Pick<MemoryRow, 'id' | 'working_set'>,
  layerId: string,
): Promise<void> {
  await tx.updateTable('memories').set({ working_set: layerId }).where('id', '=', id).execute();
  if (working_set !== null) await releaseLayer(tx, `memory:${id}`, working_set);
  await hold(tx, `memory:${id}`, [layerId]);
}

/** Bytes on disk of the pages and devices that memories brought with them, by the memory's id. */
export async function memoryBytes(db: Database, ids: Iterable<string>): Promise<Map<string, number>> {
  const sizes = await db
    .selectFrom('memories')
    .innerJoin('layers as pages', 'pages.id', 'memories.layer_id')
    .innerJoin('layers as state', 'state.id', 'memories.state_layer')
    .select(['memories.id', 'pages.size_bytes as pageBytes', 'state.size_bytes as stateBytes'])
    .where('memories.id', 'in', valuesOf(ids))
    .execute();
  return new Map(sizes.map(({ id, pageBytes, stateBytes }) => [id, pageBytes + stateBytes]));
}

/** The layers of pages and devices of memories, by the memory's id. */
export async function layersOfMemories(db: Database, ids: Iterable<string>): Promise<Map<string, string[]>> {
  const memories = await db
    .selectFrom('memories')
    .select(['id', 'layer_id', 'state_layer'])
    .where('id', 'in', valuesOf(ids))
    .execute();
  return new Map(memories.map(({ id, layer_id, state_layer }) => [id, [layer_id, state_layer]]));
}
