import type { CloneOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import {
  type BoxRow,
  type Database,
  insertBox,
  isUniqueViolation,
  type LayerRow,
  putSecrets,
  requireLayer,
  snapshotExists,
} from '../../store/index.js';
import { roomOf } from '../core/limits.js';
import { copyDisk } from '../layers/copy.js';
import type { MachinesContext } from '../machines/context.js';
import { checkLegal, exclusively } from '../machines/locked.js';
import { nameTaken, refuseTakenName } from '../record/names.js';
import { newBoxRow } from '../record/new-row.js';
import { announce, configOf, requireRow } from '../record/rows.js';
import { checkName } from '../record/validate.js';
import { attachmentsOf, insertAttachments, mountsOf } from '../volumes/attachments.js';
import { captureDisks } from './disk-capture.js';
import { noSnapshot, requireSnapshot } from './require-snapshot.js';

/** What a clone is made from: layers that no longer change. */
interface CloneSource {
  readonly guest: string;
  readonly disk: string;
  readonly goldenKey: string;
  readonly diskSizeGb: number;
  /** What has to be true, or comes true, in the clone's commit. */
  confirm(tx: Database): Promise<void>;
}

/**
 * Makes a stopped box that has the disks of another, or of one of its snapshots, and does not depend on it living.
 * Clones of a snapshot do not wait for each other: nothing of the source changes. Throws `already_exists`,
 * `not_found`, `invalid_state`, `resource_exhausted`, `disk_full`, `cancelled`.
 */
export async function cloneBox(
  ctx: MachinesContext,
  sourceId: string,
  name: string | undefined,
  options: CloneOptions,
): Promise<BoxRow> {
  if (name !== undefined) checkName(name);
  const { fromSnapshot } = options;
  if (fromSnapshot === undefined) {
    const clone = (row: BoxRow): Promise<BoxRow> => cloneNow(ctx, row, name, options);
    return await exclusively(ctx, sourceId, 'clone', clone, options.signal);
  }
  const row = await requireRow(ctx.db, sourceId);
  checkLegal('clone', row);
  // Before disks are copied.
  await ctx.limits.admit(ctx.db, row.tenant, roomOf(row));
  return await makeClone(ctx, row, name, options, await fromSnapshotOf(ctx, row, fromSnapshot));
}

/** Clones a box as it is; its heads become layers, in the same commit. */
async function cloneNow(
  ctx: MachinesContext,
  source: BoxRow,
  name: string | undefined,
  options: CloneOptions,
): Promise<BoxRow> {
  await refuseTakenName(ctx.db, source.tenant, name);
  // Before the box gets new heads; what is stored is admitted again where it is.
  await ctx.limits.admit(ctx.db, source.tenant, roomOf(source));
  const captured = await captureDisks(ctx, source);
  const { guest, disk } = captured;
  let clone: BoxRow;
  try {
    clone = await makeClone(ctx, source, name, options, {
      guest,
      disk,
      goldenKey: source.golden_key,
      diskSizeGb: source.disk_size_gb,
      confirm: (tx) => captured.apply(tx),
    });
  } catch (error) {
    await captured.discard();
    throw error;
  }
  await captured.seal();
  return clone;
}

async function fromSnapshotOf(ctx: MachinesContext, source: BoxRow, name: string): Promise<CloneSource> {
  const snapshot = await requireSnapshot(ctx.db, source.id, name);
  return {
    guest: snapshot.guest_layer,
    disk: snapshot.disk_layer,
    goldenKey: snapshot.golden_key,
    diskSizeGb: snapshot.disk_size_gb,
    confirm: async (tx) => {
      // It may have been removed meanwhile; while it is there its layers are, too.
      if (!(await snapshotExists(tx, snapshot.id))) throw noSnapshot(name);
    },
  };
}

async function makeClone(
  ctx: MachinesContext,
  source: BoxRow,
  name: string | undefined,
  options: CloneOptions,
  from: CloneSource,
): Promise<BoxRow> {
  const made: LayerRow[] = [];
  try {
    const heads = {
      guest: await newHead(ctx, from.guest, options, made),
      disk: await newHead(ctx, from.disk, options, made),
    };
    // A volume that is written has one writer: the clone comes without it.
    const volumes = (await attachmentsOf(ctx.db, source)).filter(({ readOnly }) => readOnly);
    const config = { ...configOf(source), volumes: mountsOf(volumes) };
    const row = { ...clonedRow(source, name, from, heads), config: JSON.stringify(config) };
    const secrets = await ctx.vault.copyOf(ctx.db, source.id, row.id);
    throwIfCancelled(options.signal, 'the clone');
    await ctx.commits.run(async (tx) => {
      await from.confirm(tx);
      await ctx.limits.admit(tx, row.tenant, roomOf(row));
      await insertBox(tx, row, made);
      await insertAttachments(tx, row.id, volumes);
      await putSecrets(tx, secrets);
    });
    announce(ctx, row, 'created');
    ctx.activity.watch(row);
    ctx.counters.add(row.tenant, 'boxesCreatedTotal');
    ctx.flattener.consider(row.id);
    return row;
  } catch (error) {
    for (const { id } of made) await ctx.layers.remove(id);
    throw isUniqueViolation(error) && name !== undefined ? nameTaken(name) : error;
  }
}

async function newHead(
  ctx: MachinesContext,
  layerId: string,
  options: CloneOptions,
  made: LayerRow[],
): Promise<string> {
  let base = await requireLayer(ctx.db, layerId);
  if (options.cow === false) {
    base = await copyDisk(ctx, base, options);
    made.push(base);
  }
  const head = await ctx.layers.newHead(base);
  made.push(head);
  return head.id;
}

function clonedRow(
  source: BoxRow,
  name: string | undefined,
  from: CloneSource,
  heads: { guest: string; disk: string },
): BoxRow {
  return newBoxRow({
    ...source,
    name: name ?? null,
    status: 'stopped',
    guest_head: heads.guest,
    disk_head: heads.disk,
    golden_key: from.goldenKey,
    disk_size_gb: from.diskSizeGb,
    snapshot_id: null,
    memory_id: null,
  });
}
