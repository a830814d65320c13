import type {
  CallOptions,
  SnapshotCreateOptions,
  SnapshotInfo,
  SnapshotResult,
  Snapshots,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import {
  type BoxRow,
  changeHeads,
  deleteSnapshot,
  findSnapshot,
  insertLayers,
  insertSnapshot,
  isUniqueViolation,
  type LayerRow,
  listSnapshots,
  requireLayer,
  type SnapshotRow,
} from '../../store/index.js';
import type { MachinesContext } from '../machines/context.js';
import { exclusively } from '../machines/locked.js';
import { announce, requireRow } from '../record/rows.js';
import { captureDisks, defaultQuiesce } from './disk-capture.js';
import { snapshotMemory } from './memory-snapshot.js';
import { requireSnapshot } from './require-snapshot.js';
import { rollBack } from './rollback.js';
import { snapshotInfos } from './snapshot-info.js';
import { checkSnapshotName } from './snapshot-name.js';

/** The snapshots of one box of the engine. */
export class EngineSnapshots implements Snapshots {
  readonly #ctx: MachinesContext;
  readonly #boxId: string;

  constructor(ctx: MachinesContext, boxId: string) {
    this.#ctx = ctx;
    this.#boxId = boxId;
  }

  async create(name: string, options: SnapshotCreateOptions = {}): Promise<SnapshotResult> {
    checkSnapshotName(name);
    const ctx = this.#ctx;
    const operation = options.memory ? 'snapshot.create.memory' : 'snapshot.create';
    const { signal } = options;
    const take = async (box: BoxRow): Promise<{ row: SnapshotRow; guestPauseMs: number }> => {
      if (await this.#find(name)) throw nameTaken(name);
      await ctx.limits.admit(ctx.db, box.tenant, { snapshots: 1 });
      if (options.memory) return await snapshotMemory(ctx, box, name, signal);
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
        throwIfCancelled(signal, 'the snapshot');
        await ctx.commits.run(async (tx) => {
          await captured.apply(tx);
          await ctx.limits.admit(tx, box.tenant, { snapshots: 1 });
          await insertSnapshot(tx, snapshot);
        });
      } catch (error) {
        await captured.discard();
        throw isUniqueViolation(error) ? nameTaken(name) : error;
      }
      await captured.seal();
      return { row: snapshot, guestPauseMs: captured.guestPauseMs };
    };
    const { row, guestPauseMs } = await exclusively(ctx, this.#boxId, operation, take, signal);
    const [info] = await snapshotInfos(ctx.db, [row]);
    if (!info) throw new CryoboxError('internal', `snapshot ${row.id} vanished`);
    return { ...info, guestPauseMs };
  }

  async list({ signal }: CallOptions = {}): Promise<SnapshotInfo[]> {
    throwIfCancelled(signal, 'the listing of snapshots');
    await requireRow(this.#ctx.db, this.#boxId);
    return await snapshotInfos(this.#ctx.db, await listSnapshots(this.#ctx.db, this.#boxId));
  }

  async get(name: string, { signal }: CallOptions = {}): Promise<SnapshotInfo | null> {
    throwIfCancelled(signal, 'the look-up of a snapshot');
    await requireRow(this.#ctx.db, this.#boxId);
    const row = await this.#find(name);
    if (!row) return null;
    const [info] = await snapshotInfos(this.#ctx.db, [row]);
    return info ?? null;
  }

  async restore(name: string, options: CallOptions & { readonly live?: boolean } = {}): Promise<void> {
    const ctx = this.#ctx;
    if (options.live) {
      const back = async (box: BoxRow): Promise<void> => rollBack(ctx, box, await this.#require(name));
      await exclusively(ctx, this.#boxId, 'snapshot.rollback', back, options.signal);
      return;
    }
    const restore = async (box: BoxRow): Promise<void> => {
      const snapshot = await this.#require(name);
      await putBack(ctx, box, snapshot);
      announce(ctx, box, 'restored');
      ctx.gc.soon();
      ctx.flattener.consider(box.id);
    };
    await exclusively(ctx, this.#boxId, 'snapshot.restore', restore, options.signal);
  }

  async remove(name: string, { signal }: CallOptions = {}): Promise<void> {
    const ctx = this.#ctx;
    const remove = async (): Promise<void> => {
      const snapshot = await this.#require(name);
      await ctx.commits.run((tx) => deleteSnapshot(tx, snapshot.id));
      ctx.gc.soon();
    };
    await exclusively(ctx, this.#boxId, 'snapshot.remove', remove, signal);
  }

  async #find(name: string): Promise<SnapshotRow | undefined> {
    return await findSnapshot(this.#ctx.db, this.#boxId, name);
  }

  async #require(name: string): Promise<SnapshotRow> {
    return await requireSnapshot(this.#ctx.db, this.#boxId, name);
  }
}

/** Gives a box new empty heads on a snapshot's layers, in one commit; what was written since is garbage then. */
async function putBack(ctx: MachinesContext, box: BoxRow, snapshot: SnapshotRow): Promise<void> {
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
      await insertLayers(tx, heads);
      await changeHeads(tx, box.id, changes);
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
