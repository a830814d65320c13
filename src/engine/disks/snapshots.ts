import type {
  CallOptions,
  SnapshotCreateOptions,
  SnapshotInfo,
  SnapshotResult,
  Snapshots,
} from '../../api/index.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import {
  type BoxRow,
  hold,
  holdOnly,
  isUniqueViolation,
  type LayerRow,
  release,
  type SnapshotRow,
} from '../../store/index.js';
import { armTimers } from '../boxes/idle.js';
import { exclusively } from '../boxes/locked.js';
import { announce, requireRow } from '../boxes/rows.js';
import type { EngineContext } from '../context.js';
import { rollBack } from '../memory/rollback.js';
import { snapshotMemory } from '../memory/snapshot.js';
import { captureDisks, defaultQuiesce } from './capture.js';
import { requireLayer } from './layers.js';
import { snapshotInfos } from './snapshot-info.js';
import { checkSnapshotName } from './snapshot-name.js';

/** The snapshots of one box of the engine. */
export class EngineSnapshots implements Snapshots {
  readonly #ctx: EngineContext;
  readonly #boxId: string;

  constructor(ctx: EngineContext, boxId: string) {
    this.#ctx = ctx;
    this.#boxId = boxId;
  }

  async create(name: string, options: SnapshotCreateOptions = {}): Promise<SnapshotResult> {
    checkSnapshotName(name);
    const ctx = this.#ctx;
    const { row, guestPauseMs } = await exclusively(ctx, this.#boxId, 'snapshot.create', async (box) => {
      if (await this.#find(name)) throw nameTaken(name);
      if (options.memory) return await snapshotMemory(ctx, box, name);
      const captured = await captureDisks(ctx, box, { ...defaultQuiesce, ...definedOf(options) });
      const snapshot: SnapshotRow = {
        id: newId('snp'),
        box_id: box.id,
        name,
        created_at: Date.now(),
        parent_id: box.snapshot_id,
        consistency: captured.consistency,
        disk_size_gb: box.disk_size_gb,
        golden_key: box.golden_key,
        guest_layer: captured.guest,
        disk_layer: captured.disk,
        memory_id: null,
      };
      try {
        await ctx.commits.run(async (tx) => {
          await captured.apply(tx);
          await tx.insertInto('snapshots').values(snapshot).execute();
          await tx.updateTable('boxes').set({ snapshot_id: snapshot.id }).where('id', '=', box.id).execute();
          await hold(tx, `snapshot:${snapshot.id}`, [captured.guest, captured.disk]);
        });
      } catch (error) {
        await captured.discard();
        throw isUniqueViolation(error) ? nameTaken(name) : error;
      }
      await captured.seal();
      return { row: snapshot, guestPauseMs: captured.guestPauseMs };
    });
    const [info] = await snapshotInfos(ctx.db, [row]);
    if (!info) throw new CryoboxError('internal', `snapshot ${row.id} vanished`);
    return { ...info, guestPauseMs };
  }

  async list(): Promise<SnapshotInfo[]> {
    await requireRow(this.#ctx.db, this.#boxId);
    const rows = await this.#ctx.db
      .selectFrom('snapshots')
      .selectAll()
      .where('box_id', '=', this.#boxId)
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .execute();
    return await snapshotInfos(this.#ctx.db, rows);
  }

  async get(name: string): Promise<SnapshotInfo | null> {
    await requireRow(this.#ctx.db, this.#boxId);
    const row = await this.#find(name);
    if (!row) return null;
    const [info] = await snapshotInfos(this.#ctx.db, [row]);
    return info ?? null;
  }

  async restore(name: string, options: CallOptions & { readonly live?: boolean } = {}): Promise<void> {
    const ctx = this.#ctx;
    if (options.live) {
      await exclusively(ctx, this.#boxId, 'snapshot.rollback', async (box) => {
        await rollBack(ctx, box, await this.#require(name));
        armTimers(ctx, await requireRow(ctx.db, box.id));
      });
      return;
    }
    await exclusively(ctx, this.#boxId, 'snapshot.restore', async (box) => {
      const snapshot = await this.#require(name);
      await putBack(ctx, box, snapshot);
      announce(ctx, box, 'restored');
      ctx.gc.soon();
      ctx.flattener.consider(box.id);
    });
  }

  async remove(name: string): Promise<void> {
    const ctx = this.#ctx;
    await exclusively(ctx, this.#boxId, 'snapshot.remove', async () => {
      const snapshot = await this.#require(name);
      await ctx.commits.run(async (tx) => {
        await release(tx, `snapshot:${snapshot.id}`);
        await tx.deleteFrom('snapshots').where('id', '=', snapshot.id).execute();
      });
      ctx.gc.soon();
    });
  }

  async #find(name: string): Promise<SnapshotRow | undefined> {
    return await this.#ctx.db
      .selectFrom('snapshots')
      .selectAll()
      .where('box_id', '=', this.#boxId)
      .where('name', '=', name)
      .executeTakeFirst();
  }

  async #require(name: string): Promise<SnapshotRow> {
    const row = await this.#find(name);
    if (row) return row;
    throw new CryoboxError('not_found', `the box has no snapshot ${JSON.stringify(name)}`, {
      details: { name },
    });
  }
}

/** Gives a box new empty heads on a snapshot's layers, in one commit; what was written since is garbage then. */
async function putBack(ctx: EngineContext, box: BoxRow, snapshot: SnapshotRow): Promise<void> {
  const heads: LayerRow[] = [];
  try {
    for (const id of [snapshot.guest_layer, snapshot.disk_layer]) {
      heads.push(await ctx.layers.newHead(await requireLayer(ctx.db, id)));
    }
    const [guest, disk] = heads.map(({ id }) => id) as [string, string];
    const changes = {
      guest_head: guest,
      disk_head: disk,
      golden_key: snapshot.golden_key,
      disk_size_gb: snapshot.disk_size_gb,
      snapshot_id: snapshot.id,
      updated_at: Date.now(),
    };
    await ctx.commits.run(async (tx) => {
      await tx.insertInto('layers').values(heads).execute();
      await tx.updateTable('boxes').set(changes).where('id', '=', box.id).execute();
      await holdOnly(tx, `box:${box.id}`, [guest, disk]);
    });
  } catch (error) {
    for (const { id } of heads) await ctx.layers.remove(id);
    throw error;
  }
}

function nameTaken(name: string): CryoboxError {
  return new CryoboxError('already_exists', `the box has a snapshot ${JSON.stringify(name)} already`, {
    details: { name },
  });
}

/** The options that were given: an undefined one does not hide a default. */
function definedOf(options: SnapshotCreateOptions): Partial<typeof defaultQuiesce> {
  const { quiesce, quiesceTimeoutMs, stopOnQuiesceFail } = options;
  return Object.fromEntries(
    Object.entries({ quiesce, quiesceTimeoutMs, stopOnQuiesceFail }).filter(
      ([, value]) => value !== undefined,
    ),
  );
}
