import type { BoxActivity, BoxInfo, BoxStatus, StageTimes } from '../../api/index.js';
import type { BoxRow, Database } from '../../store/index.js';
import type { LayerFiles } from '../layer-files.js';
import type { LiveBoxes } from '../live.js';
import type { BoxConfig } from './config.js';

/** Boxes at rest that are remembered; one takes about 2 KiB. */
const maxRemembered = 10_000;
/** Rows asked for by id in one query; SQLite takes 32,766 parameters at most. */
const maxIdsOfQuery = 1000;

/** What tells that a box at rest, its files included, is as it was: nothing writes a head that has no machine. */
const stampColumns = ['id', 'status', 'updated_at', 'guest_head', 'disk_head', 'memory_id'] as const;
type Stamp = Pick<BoxRow, (typeof stampColumns)[number]>;

interface InfoNeeds {
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly live: LiveBoxes;
  readonly activities: ReadonlyMap<string, BoxActivity>;
}

interface Remembered {
  readonly stamp: Stamp;
  readonly info: BoxInfo;
}

/**
 * Boxes as users see them. A box at rest is read, parsed and measured once after each change, and its `BoxInfo`, which
 * is frozen, given again and again: a list of a thousand boxes asks the database for six columns of each, and the
 * file system for nothing.
 */
export class BoxInfos {
  readonly #needs: InfoNeeds;
  readonly #atRest = new Map<string, Remembered>();

  constructor(needs: InfoNeeds) {
    this.#needs = needs;
  }

  /** One box. */
  async of(row: BoxRow): Promise<BoxInfo> {
    const memoryBytes = (await this.#memoryBytes([row])).get(row.id) ?? 0;
    return this.#recall(row, memoryBytes) ?? (await this.#read(row, memoryBytes));
  }

  /** The boxes of a tenant, oldest first. */
  async list(tenant: string, status: BoxStatus | undefined): Promise<BoxInfo[]> {
    let query = this.#needs.db.selectFrom('boxes').select(stampColumns).where('tenant', '=', tenant);
    if (status) query = query.where('status', '=', status);
    const stamps = await query.orderBy('created_at').orderBy('id').execute();
    const memoryBytes = await this.#memoryBytes(stamps);
    const bytesOf = (id: string): number => memoryBytes.get(id) ?? 0;
    const known = stamps.map((stamp) => this.#recall(stamp, bytesOf(stamp.id)));
    const rows = await this.#rows(stamps.filter((_, i) => known[i] === undefined).map(({ id }) => id));
    const read = await Promise.all(rows.map((row) => this.#read(row, bytesOf(row.id))));
    const byId = new Map(read.map((info) => [info.id, info]));
    // One that went meanwhile is left out.
    return stamps.flatMap(({ id }, i) => known[i] ?? byId.get(id) ?? []);
  }

  /** What is remembered of a box, if it is at rest and has not changed. */
  #recall(stamp: Stamp, memoryBytes: number): BoxInfo | undefined {
    if (this.#isAtWork(stamp.id)) return undefined;
    const known = this.#atRest.get(stamp.id);
    if (!known || known.info.storage.memoryBytes !== memoryBytes) return undefined;
    return stampColumns.every((column) => known.stamp[column] === stamp[column]) ? known.info : undefined;
  }

  async #read(row: BoxRow, memoryBytes: number): Promise<BoxInfo> {
    const { layers } = this.#needs;
    // Asked before the files: what comes to run meanwhile is not remembered.
    const atRest = !this.#isAtWork(row.id);
    const guestBytes = await layers.allocatedBytes(row.guest_head);
    const diskBytes = guestBytes + (await layers.allocatedBytes(row.disk_head));
    const info = this.#infoOf(row, { diskBytes, memoryBytes });
    this.#atRest.delete(row.id);
    if (atRest && !this.#isAtWork(row.id)) this.#remember(row, info);
    return info;
  }

  #isAtWork(boxId: string): boolean {
    const { live, activities } = this.#needs;
    return live.get(boxId) !== undefined || activities.has(boxId);
  }

  #remember(row: BoxRow, info: BoxInfo): void {
    const { id, status, updated_at, guest_head, disk_head, memory_id } = row;
    const stamp = { id, status, updated_at, guest_head, disk_head, memory_id };
    this.#atRest.set(id, { stamp, info: deeplyFrozen(info) });
    if (this.#atRest.size <= maxRemembered) return;
    for (const oldest of this.#atRest.keys()) {
      this.#atRest.delete(oldest);
      break;
    }
  }

  async #rows(ids: readonly string[]): Promise<BoxRow[]> {
    const rows: BoxRow[] = [];
    for (let at = 0; at < ids.length; at += maxIdsOfQuery) {
      const some = ids.slice(at, at + maxIdsOfQuery);
      rows.push(...(await this.#needs.db.selectFrom('boxes').selectAll().where('id', 'in', some).execute()));
    }
    return rows;
  }

  /** Bytes that the memories of paused boxes take beyond what they were restored from; other boxes are left out. */
  async #memoryBytes(boxes: readonly Stamp[]): Promise<Map<string, number>> {
    const paused = boxes.filter(({ memory_id }) => memory_id !== null);
    const bytes = new Map<string, number>();
    for (let at = 0; at < paused.length; at += maxIdsOfQuery) {
      const some = paused.slice(at, at + maxIdsOfQuery);
      const sizes = await this.#needs.db
        .selectFrom('memories')
        .innerJoin('layers as pages', 'pages.id', 'memories.layer_id')
        .innerJoin('layers as state', 'state.id', 'memories.state_layer')
        .select(['memories.id', 'pages.size_bytes as page_bytes', 'state.size_bytes as state_bytes'])
        .where(
          'memories.id',
          'in',
          some.map(({ memory_id }) => memory_id ?? ''),
        )
        .execute();
      const byMemory = new Map(sizes.map((it) => [it.id, it.page_bytes + it.state_bytes]));
      for (const { id, memory_id } of some) bytes.set(id, byMemory.get(memory_id ?? '') ?? 0);
    }
    return bytes;
  }

  #infoOf(row: BoxRow, storage: BoxInfo['storage']): BoxInfo {
    const { live: boxes, activities } = this.#needs;
    const live = boxes.get(row.id);
    return {
      id: row.id,
      name: row.name,
      status: row.status as BoxStatus,
      operation: activities.get(row.id) ?? null,
      createdAt: new Date(row.created_at),
      updatedAt: new Date(row.updated_at),
      image: row.image,
      template: row.template,
      cpus: row.cpus,
      memoryMiB: row.memory_mib,
      diskSizeGb: row.disk_size_gb,
      ...(JSON.parse(row.config) as BoxConfig),
      labels: JSON.parse(row.labels) as Record<string, string>,
      autoStop: row.auto_stop,
      autoStopAction: row.auto_stop_action as BoxInfo['autoStopAction'],
      autoDelete: row.auto_delete,
      autoResume: row.auto_resume === 1,
      detach: row.detach === 1,
      pid: live?.machine.process.pid ?? null,
      run: live?.run ?? null,
      failure: row.failure,
      stages: JSON.parse(row.stages) as StageTimes,
      storage,
    };
  }
}

function deeplyFrozen<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    if (typeof part === 'object' && part !== null && !(part instanceof Date)) deeplyFrozen(part);
  }
  return Object.freeze(value);
}
