import { CryoboxError } from '../../errors.js';
import {
  type BoxRow,
  type Database,
  findBox,
  findMemory,
  type HeldMemory,
  heldBy,
  hold,
  type LayerRow,
  layersWithNeeded,
  listSnapshots,
  type SnapshotRow,
} from '../../store/index.js';
import { underLock } from '../machines/locked.js';
import { configOf } from '../record/rows.js';
import { isUndecided } from '../record/undecided.js';
import { captureDisks } from '../states/disk-capture.js';
import type { ReplicasContext } from './context.js';
import { type BoxManifest, type NeededLayer, storeFormat } from './layout.js';

/** A box that stands still, and all that it comes back from; its layers are held until that is let go of. */
export interface BoxAtRest {
  readonly row: BoxRow;
  readonly disks: { readonly guest: string; readonly disk: string };
  readonly snapshots: readonly SnapshotRow[];
  readonly memories: readonly HeldMemory[];
  readonly layers: readonly LayerRow[];
}

/** Whether a box has a state that can be elsewhere: it stands still, it is clear how it goes on, and no volume is part of it. */
export function canBeReplicated(row: Pick<BoxRow, 'status' | 'failure'>, hasVolumes: boolean): boolean {
  return ['stopped', 'paused', 'failed'].includes(row.status) && !isUndecided(row) && !hasVolumes;
}

/**
 * What a box comes back from, as it is now: what its last machine wrote becomes a layer, and an empty head stands on it.
 * The layers are held by `replica:ID`. Undefined when it runs or is gone. Throws `disk_full`, `storage_error`.
 */
export async function captureAtRest(
  ctx: ReplicasContext,
  boxId: string,
  signal: AbortSignal,
): Promise<BoxAtRest | undefined> {
  return await underLock(ctx, boxId, () => captureLocked(ctx, boxId), signal);
}

/** {@link captureAtRest} for who has the box's lock. */
export async function captureLocked(ctx: ReplicasContext, boxId: string): Promise<BoxAtRest | undefined> {
  const before = await findBox(ctx.db, boxId);
  if (!before || ctx.live.get(boxId)) return undefined;
  if (!canBeReplicated(before, configOf(before).volumes.length > 0)) return undefined;
  const disks = before.memory_id === null ? await sealDisks(ctx, before) : undefined;
  return await ctx.commits.run(async (tx) => {
    const row = await findBox(tx, boxId);
    if (!row) return undefined;
    const snapshots = await listSnapshots(tx, boxId);
    const memories = await memoriesOf(tx, [row, ...snapshots]);
    const own = memories.find((it) => it.row.id === row.memory_id)?.row;
    const stands = disks ?? { guest: own?.guest_layer ?? '', disk: own?.disk_layer ?? '' };
    const named = snapshots.flatMap((it) => [it.guest_layer, it.disk_layer]);
    const held = memories.flatMap(({ holds }) => holds);
    const layers = await holdForReplica(tx, boxId, [stands.guest, stands.disk, ...named, ...held]);
    return { row, disks: stands, snapshots, memories, layers };
  });
}

/** What a store is told that a box comes back from, once it has those layers. */
export function boxManifest(
  { row, disks, snapshots, memories }: BoxAtRest,
  layers: readonly NeededLayer[],
): BoxManifest {
  return { kind: 'box', format: storeFormat, box: row, disks, snapshots, memories, layers };
}

async function sealDisks(ctx: ReplicasContext, row: BoxRow): Promise<BoxAtRest['disks']> {
  const captured = await captureDisks(ctx, row);
  try {
    await ctx.commits.run((tx) => captured.apply(tx));
  } catch (error) {
    await captured.discard();
    throw error;
  }
  await captured.seal();
  return { guest: captured.guest, disk: captured.disk };
}

/** Keeps layers, and those that they need, for the copy of a box, a template or an image until it is done. Gives all of them. */
export async function holdForReplica(
  tx: Database,
  id: string,
  layerIds: readonly string[],
): Promise<LayerRow[]> {
  const layers = await layersWithNeeded(tx, layerIds);
  await hold(
    tx,
    `replica:${id}`,
    layers.map((it) => it.id),
  );
  return layers;
}

/** The memories that rows name, each once, with what they hold. Throws `integrity` for one that is gone. */
export async function memoriesOf(
  db: Database,
  rows: readonly { readonly memory_id: string | null }[],
): Promise<HeldMemory[]> {
  const ids = new Set(rows.flatMap(({ memory_id }) => memory_id ?? []));
  const memories: HeldMemory[] = [];
  for (const id of ids) {
    const row = await findMemory(db, id);
    if (!row) throw new CryoboxError('integrity', `memory ${id} is not in the database`);
    memories.push({ row, holds: await heldBy(db, `memory:${id}`) });
  }
  return memories;
}
