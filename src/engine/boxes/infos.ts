import { LRUCache } from 'lru-cache';
import type {
  BoxActivity,
  BoxInfo,
  BoxStatus,
  Durability,
  MainInfo,
  PublishedPort,
  StageTimes,
} from '../../api/index.js';
import {
  type BoxQuery,
  type BoxRow,
  type BoxStamp,
  type Database,
  findBoxes,
  listBoxStamps,
  memoryBytes,
  stampColumns,
} from '../../store/index.js';
import type { LayerFiles } from '../layers/layer-files.js';
import { fullDiskFailure } from '../machines/disk-room.js';
import { hostnameOf } from '../machines/identity.js';
import type { LiveBoxes } from '../machines/live.js';
import { type BoxConfig, parseConfig } from '../record/config.js';

/** Boxes at rest that are remembered; one takes about 2 KiB. */
const maxRemembered = 10_000;
/** Texts of JSON whose values are remembered: boxes of one image, and clones, have the same. */
const maxTexts = 1_000;

interface InfoNeeds {
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly live: LiveBoxes;
  readonly activities: ReadonlyMap<string, BoxActivity>;
  /** How safe a box is, from its stamp. */
  durabilityOf(stamp: BoxStamp, hasVolumes: boolean): Durability;
  /** When a box was last used, as far as this engine has seen it, in milliseconds since 1970. */
  lastUsedAt(boxId: string): number | undefined;
  portsOf(boxId: string): PublishedPort[];
}

interface Remembered {
  readonly stamp: BoxStamp;
  readonly info: BoxInfo;
}

/**
 * Boxes as users see them. A box at rest is read, parsed and measured once after each change, and its `BoxInfo`, which
 * is frozen, given again and again: a list of a thousand boxes asks the database for a few columns of each, and the
 * file system for nothing.
 */
export class BoxInfos {
  readonly #needs: InfoNeeds;
  readonly #atRest = new LRUCache<string, Remembered>({ max: maxRemembered });
  readonly #parsed = new LRUCache<string, object>({ max: maxTexts });

  constructor(needs: InfoNeeds) {
    this.#needs = needs;
  }

  /** One box. */
  async of(row: BoxRow): Promise<BoxInfo> {
    const bytes = (await this.#memoryBytes([row])).get(row.id) ?? 0;
    return this.#recall(row, bytes) ?? (await this.#read(row, bytes));
  }

  /** The boxes of a tenant that are asked for, newest first. */
  async list(tenant: string, query: BoxQuery): Promise<BoxInfo[]> {
    const { db } = this.#needs;
    const stamps = await listBoxStamps(db, tenant, query);
    const bytes = await this.#memoryBytes(stamps);
    const bytesOf = (id: string): number => bytes.get(id) ?? 0;
    const known = stamps.map((stamp) => this.#recall(stamp, bytesOf(stamp.id)));
    const unknown = stamps.filter((_, i) => known[i] === undefined).map(({ id }) => id);
    const rows = unknown.length === 0 ? [] : await findBoxes(db, tenant, unknown);
    const read = await Promise.all(rows.map((row) => this.#read(row, bytesOf(row.id))));
    const byId = new Map(read.map((info) => [info.id, info]));
    // One that went meanwhile is left out.
    return stamps.flatMap(({ id }, i) => known[i] ?? byId.get(id) ?? []);
  }

  /** What is remembered of a box, if it is at rest and has not changed. */
  #recall(stamp: BoxStamp, memoryBytes: number): BoxInfo | undefined {
    if (this.#isAtWork(stamp.id)) return undefined;
    const known = this.#atRest.get(stamp.id);
    if (!known || known.info.storage.memoryBytes !== memoryBytes) return undefined;
    if (!stampColumns.every((column) => known.stamp[column] === stamp[column])) return undefined;
    const durability = this.#needs.durabilityOf(stamp, known.info.volumes.length > 0);
    return known.info.durability === durability ? known.info : undefined;
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
    const { id, status, updated_at, last_active_at, guest_head, disk_head, memory_id } = row;
    const { failure, record_version } = row;
    const heads = { guest_head, disk_head, memory_id };
    const stamp = { id, status, updated_at, last_active_at, ...heads, failure, record_version };
    this.#atRest.set(id, { stamp, info: deeplyFrozen(info) });
  }

  /** The value of a text of JSON, frozen: parsing and freezing it takes longer than reading the row does. */
  #parse(text: string, read: (text: string) => object = JSON.parse): object {
    const known = this.#parsed.get(text);
    if (known) return known;
    const value = deeplyFrozen(read(text));
    this.#parsed.set(text, value);
    return value;
  }

  /** Bytes that the memories of paused boxes take beyond what they were restored from; other boxes are left out. */
  async #memoryBytes(boxes: readonly BoxStamp[]): Promise<Map<string, number>> {
    const paused = boxes.filter(({ memory_id }) => memory_id !== null);
    if (paused.length === 0) return new Map();
    const sizes = await memoryBytes(
      this.#needs.db,
      paused.flatMap(({ memory_id }) => memory_id ?? []),
    );
    return new Map(paused.map(({ id, memory_id }) => [id, sizes.get(memory_id ?? '') ?? 0]));
  }

  #infoOf(row: BoxRow, storage: BoxInfo['storage']): BoxInfo {
    const { live: boxes, activities, lastUsedAt, portsOf } = this.#needs;
    const {
      ownEnv = [],
      imageAsked = row.image,
      lifetime,
      main,
      secrets: _secrets,
      network: { intercept: _intercept, ...network },
      ...config
    } = this.#parse(row.config, parseConfig) as BoxConfig;
    const live = boxes.get(row.id);
    return {
      id: row.id,
      name: row.name,
      status: row.status as BoxStatus,
      operation: activities.get(row.id) ?? null,
      createdAt: new Date(row.created_at),
      updatedAt: new Date(row.updated_at),
      lastActivityAt: new Date(Math.max(row.last_active_at, lastUsedAt(row.id) ?? 0)),
      image: imageAsked,
      template: row.template,
      cpus: row.cpus,
      memoryMiB: row.memory_mib,
      diskSizeGb: row.disk_size_gb,
      ...config,
      missingEnv: ownEnv.filter((name) => !Object.hasOwn(config.env, name)),
      network,
      hostname: hostnameOf(row, config),
      main: main ? { command: main.argv, tty: main.tty, ...exitOf(row) } : null,
      labels: this.#parse(row.labels) as BoxInfo['labels'],
      autoStop: row.auto_stop,
      autoStopAction: row.auto_stop_action as BoxInfo['autoStopAction'],
      autoDelete: row.auto_delete,
      lifetime: lifetime?.seconds ?? 0,
      lifetimeAction: lifetime?.action ?? 'stop',
      endsAt: live?.endsAt === undefined ? null : new Date(live.endsAt),
      autoResume: row.auto_resume === 1,
      detach: row.detach === 1,
      ports: portsOf(row.id),
      pid: live?.machine.process.pid ?? null,
      run: live?.run ?? null,
      failure: live?.disks.isWaiting ? fullDiskFailure : row.failure,
      stages: this.#parse(row.stages) as StageTimes,
      durability: this.#needs.durabilityOf(row, config.volumes.length > 0),
      storage,
    };
  }
}

function exitOf({ main_exit }: BoxRow): Pick<MainInfo, 'exitCode' | 'signal'> {
  if (main_exit === null) return { exitCode: null, signal: null };
  return JSON.parse(main_exit) as Pick<MainInfo, 'exitCode' | 'signal'>;
}

function deeplyFrozen<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    if (typeof part !== 'object' || part === null || part instanceof Date) continue;
    if (!Object.isFrozen(part)) deeplyFrozen(part);
  }
  return Object.freeze(value);
}
