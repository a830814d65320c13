import type { CloneOptions } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, type Database, hold, isUniqueViolation, type LayerRow } from '../../store/index.js';
import { nameTaken, refuseTakenName } from '../boxes/names.js';
import { announce } from '../boxes/rows.js';
import { checkName } from '../boxes/validate.js';
import type { EngineContext } from '../context.js';
import { type CapturedDisks, captureDisks } from './capture.js';
import { copyDisk } from './copy.js';
import { requireLayer } from './layers.js';

/** What a clone is made from: layers that no longer change. */
interface CloneSource {
  readonly guest: string;
  readonly disk: string;
  readonly goldenKey: string;
  readonly diskSizeGb: number;
  /** Present when the layers were the box's heads until now. */
  readonly captured?: CapturedDisks;
}

/**
 * Makes a stopped box that has the disks of another, or of one of its snapshots, and does not depend on it living.
 * Called under the source's lock. Throws `already_exists`, `not_found`, `disk_full`.
 */
export async function cloneBox(
  ctx: EngineContext,
  source: BoxRow,
  name: string | undefined,
  options: CloneOptions,
): Promise<BoxRow> {
  if (name !== undefined) checkName(name);
  await refuseTakenName(ctx.db, source.tenant, name);
  const from = await cloneSource(ctx, source, options.fromSnapshot);
  const made: LayerRow[] = [];
  try {
    const heads = await newHeads(ctx, from, options, made);
    const row = clonedRow(source, name, from, heads);
    await ctx.commits.run(async (tx) => {
      await from.captured?.apply(tx);
      await insertClone(tx, row, made);
    });
    await from.captured?.seal();
    announce(ctx, row.id, 'created');
    ctx.counters.add(row.tenant, 'boxesCreatedTotal');
    return row;
  } catch (error) {
    for (const { id } of made) await ctx.layers.remove(id);
    await from.captured?.discard();
    throw isUniqueViolation(error) && name !== undefined ? nameTaken(name) : error;
  }
}

async function cloneSource(
  ctx: EngineContext,
  source: BoxRow,
  snapshotName: string | undefined,
): Promise<CloneSource> {
  if (snapshotName === undefined) {
    const captured = await captureDisks(ctx, source);
    const { guest, disk } = captured;
    return { guest, disk, captured, goldenKey: source.golden_key, diskSizeGb: source.disk_size_gb };
  }
  const snapshot = await ctx.db
    .selectFrom('snapshots')
    .selectAll()
    .where('box_id', '=', source.id)
    .where('name', '=', snapshotName)
    .executeTakeFirst();
  if (!snapshot) {
    throw new CryoboxError('not_found', `the box has no snapshot ${JSON.stringify(snapshotName)}`);
  }
  const { guest_layer, disk_layer, golden_key, disk_size_gb } = snapshot;
  return { guest: guest_layer, disk: disk_layer, goldenKey: golden_key, diskSizeGb: disk_size_gb };
}

async function newHeads(
  ctx: EngineContext,
  from: CloneSource,
  options: CloneOptions,
  made: LayerRow[],
): Promise<{ guest: string; disk: string }> {
  const head = async (layerId: string): Promise<string> => {
    // The captured layer's row may not be stored yet as sealed, but it is stored.
    const parent = await requireLayer(ctx.db, layerId);
    const base = options.cow === false ? await copyDisk(ctx, parent, options, made) : parent;
    const row = await ctx.layers.newHead(base);
    made.push(row);
    return row.id;
  };
  return { guest: await head(from.guest), disk: await head(from.disk) };
}

function clonedRow(
  source: BoxRow,
  name: string | undefined,
  from: CloneSource,
  heads: { guest: string; disk: string },
): BoxRow {
  const now = Date.now();
  return {
    ...source,
    id: newId('box'),
    name: name ?? null,
    status: 'stopped',
    created_at: now,
    updated_at: now,
    last_active_at: now,
    guest_head: heads.guest,
    disk_head: heads.disk,
    golden_key: from.goldenKey,
    disk_size_gb: from.diskSizeGb,
    snapshot_id: null,
    failure: null,
    stages: '{}',
    commands_total: 0,
    exec_errors_total: 0,
    bytes_sent_total: 0,
    bytes_received_total: 0,
  };
}

async function insertClone(tx: Database, row: BoxRow, layers: readonly LayerRow[]): Promise<void> {
  await tx
    .insertInto('layers')
    .values([...layers])
    .execute();
  await tx.insertInto('boxes').values(row).execute();
  await hold(tx, `box:${row.id}`, [row.guest_head, row.disk_head]);
}
