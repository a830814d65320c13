import type { CloneOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, type Database, hold, isUniqueViolation, type LayerRow } from '../../store/index.js';
import { checkLegal, exclusively } from '../boxes/locked.js';
import { nameTaken, refuseTakenName } from '../boxes/names.js';
import { newBoxRow } from '../boxes/new-row.js';
import { announce, configOf, requireRow } from '../boxes/rows.js';
import { checkName } from '../boxes/validate.js';
import type { EngineContext } from '../context.js';
import { attachmentsOf, insertAttachments, mountsOf } from '../volumes/attachments.js';
import { captureDisks } from './capture.js';
import { copyDisk } from './copy.js';
import { requireLayer } from './layers.js';

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
 * `not_found`, `invalid_state`, `disk_full`.
 */
export async function cloneBox(
  ctx: EngineContext,
  sourceId: string,
  name: string | undefined,
  options: CloneOptions,
): Promise<BoxRow> {
  if (name !== undefined) checkName(name);
  const { fromSnapshot } = options;
  if (fromSnapshot === undefined) {
    return await exclusively(ctx, sourceId, 'clone', (row) => cloneNow(ctx, row, name, options));
  }
  const row = await requireRow(ctx.db, sourceId);
  checkLegal('clone', row);
  return await makeClone(ctx, row, name, options, await fromSnapshotOf(ctx, row, fromSnapshot));
}

/** Clones a box as it is; its heads become layers, in the same commit. */
async function cloneNow(
  ctx: EngineContext,
  source: BoxRow,
  name: string | undefined,
  options: CloneOptions,
): Promise<BoxRow> {
  await refuseTakenName(ctx.db, source.tenant, name);
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

async function fromSnapshotOf(ctx: EngineContext, source: BoxRow, name: string): Promise<CloneSource> {
  const gone = (): CryoboxError =>
    new CryoboxError('not_found', `the box has no snapshot ${JSON.stringify(name)}`, { details: { name } });
  const snapshot = await ctx.db
    .selectFrom('snapshots')
    .selectAll()
    .where('box_id', '=', source.id)
    .where('name', '=', name)
    .executeTakeFirst();
  if (!snapshot) throw gone();
  return {
    guest: snapshot.guest_layer,
    disk: snapshot.disk_layer,
    goldenKey: snapshot.golden_key,
    diskSizeGb: snapshot.disk_size_gb,
    confirm: async (tx) => {
      // It may have been removed meanwhile; while it is there its layers are, too.
      const still = tx.selectFrom('snapshots').select('id').where('id', '=', snapshot.id);
      if (!(await still.executeTakeFirst())) throw gone();
    },
  };
}

async function makeClone(
  ctx: EngineContext,
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
    await ctx.commits.run(async (tx) => {
      await from.confirm(tx);
      await tx.insertInto('layers').values(made).execute();
      await tx.insertInto('boxes').values(row).execute();
      await insertAttachments(tx, row.id, volumes);
      await hold(tx, `box:${row.id}`, [row.guest_head, row.disk_head]);
    });
    announce(ctx, row, 'created');
    ctx.counters.add(row.tenant, 'boxesCreatedTotal');
    ctx.flattener.consider(row.id);
    return row;
  } catch (error) {
    for (const { id } of made) await ctx.layers.remove(id);
    throw isUniqueViolation(error) && name !== undefined ? nameTaken(name) : error;
  }
}

async function newHead(
  ctx: EngineContext,
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
