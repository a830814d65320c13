import { statfsSync } from 'node:fs';
import { type LimitedResource, limitedResources, type ResourceUse } from '../../api/index.js';
import { Mutex } from '../../base/mutex.js';
import { CryoboxError } from '../../errors.js';
import {
  type BoxRow,
  type Database,
  type LimitScope,
  limitsFor,
  type Possessions,
  possessionsOf,
  type StoredLimits,
  type UpBox,
  upBoxes,
} from '../../store/index.js';
import { hostMemoryMiB } from './host-memory.js';

/** What of the host may be used, by the name of the home's setting. */
export const hostSettings = {
  /**
   * Running boxes may have so many times the host's memory together. Most of a box's memory is shared with the golden
   * machine, or with the box that it was forked from, until it is written: an idle one takes a few MiB of 512. 0: not limited.
   */
  memoryOvercommit: 16,
  /** MiB that stay free in the file system of the home; nothing new is made beyond that. At most a twentieth of all of it. */
  freeDiskMiB: 512,
} as const;

const bytesPerMiB = 1024 ** 2;
const mostOfDisk = 1 / 20;

const units: Readonly<Record<ResourceUse['resource'], string>> = {
  boxes: 'boxes',
  runningBoxes: 'running boxes',
  cpus: 'cpus of running boxes',
  memoryMiB: 'MiB of memory of running boxes',
  diskGb: 'GiB of disks',
  snapshots: 'snapshots and templates',
  executions: 'running commands',
  freeDiskMiB: 'MiB of free disk',
};

type More = Readonly<Partial<Record<LimitedResource, number>>>;
type Used = Readonly<Record<LimitedResource, number>>;

/** What a new box takes of what is limited. */
export function roomOf(row: Pick<BoxRow, 'disk_size_gb'>): {
  readonly boxes: number;
  readonly diskGb: number;
} {
  return { boxes: 1, diskGb: row.disk_size_gb };
}

interface LimitsNeeds {
  readonly db: Database;
  /** A directory in the file system of the home. */
  readonly directory: string;
}

/** Whose limits hold for a tenant. The owner of the home has the home's only. */
function scopesOf(tenant: string): readonly LimitScope[] {
  return tenant === '' ? ['tenant:'] : ['tenants', `tenant:${tenant}`];
}

/**
 * Admits what is to be made or to run, or refuses it. What is asked and what it admits are one step: rows are counted in
 * the transaction that stores another one, and whatever comes to run is counted from before it is started.
 */
export class Limits {
  readonly #needs: LimitsNeeds;
  readonly #mutex = new Mutex();
  /** Boxes that are being started, until the database says that they run. */
  readonly #comingUp = new Map<string, UpBox>();
  /** Commands under way that this engine started, by tenant. */
  readonly #executions = new Map<string, number>();

  constructor(needs: LimitsNeeds) {
    this.#needs = needs;
  }

  /**
   * Admits what a transaction is about to store for a tenant. To be called in it, or before long work to refuse early.
   * Throws `resource_exhausted`.
   */
  async admit(
    tx: Database,
    tenant: string,
    more: Readonly<Partial<Record<keyof Possessions, number>>>,
  ): Promise<void> {
    const { home, own } = await limitsFor(tx, scopesOf(tenant));
    this.#requireDisk(home);
    for (const [scope, limits] of [
      ['tenant', own],
      ['home', home],
    ] as const) {
      if (!Object.keys(more).some((name) => limits.has(name))) continue;
      const used = await possessionsOf(tx, scope === 'home' ? undefined : tenant);
      requireRoom({ scope, tenant, limits }, used, more);
    }
  }

  /** Admits what writes to the host's disk and is not counted, such as an image. Throws `resource_exhausted`. */
  async admitWriting(): Promise<void> {
    this.#requireDisk((await limitsFor(this.#needs.db, [])).home);
  }

  /**
   * Admits a box that is about to run; the result is disposed of once the database says that it does, or it will not. One
   * that runs already, or is coming up, keeps its place. Throws `resource_exhausted`.
   */
  async enter({ id, tenant, cpus, memory_mib }: UpBox): Promise<Disposable> {
    return await this.#mutex.run(async () => {
      // Whoever brings it up gives the place back.
      if (this.#comingUp.has(id)) return { [Symbol.dispose]: () => undefined };
      const box = { id, tenant, cpus, memory_mib };
      const up = await this.#up();
      if (!up.some((other) => other.id === id)) await this.#requirePlace(box, up);
      this.#comingUp.set(id, box);
      return { [Symbol.dispose]: () => this.#comingUp.delete(id) };
    });
  }

  async #requirePlace({ tenant, cpus, memory_mib }: UpBox, up: readonly UpBox[]): Promise<void> {
    const { home, own } = await limitsFor(this.#needs.db, scopesOf(tenant));
    const more = { runningBoxes: 1, cpus, memoryMiB: memory_mib };
    const mine = up.filter((box) => box.tenant === tenant);
    requireRoom({ scope: 'tenant', tenant, limits: own }, runningOf(mine), more);
    requireRoom({ scope: 'home', tenant, limits: home }, runningOf(up), more);
    requireMemory(home, runningOf(up).memoryMiB, memory_mib);
  }

  /** Admits a command of a tenant; the result is disposed of when it has ended. Throws `resource_exhausted`. */
  async execute(tenant: string): Promise<Disposable> {
    const { home, own } = await limitsFor(this.#needs.db, scopesOf(tenant));
    // From here to the end nothing else has a turn.
    const mine = this.#executions.get(tenant) ?? 0;
    requireRoom({ scope: 'tenant', tenant, limits: own }, { executions: mine }, { executions: 1 });
    requireRoom(
      { scope: 'home', tenant, limits: home },
      { executions: this.#allExecutions() },
      { executions: 1 },
    );
    this.#executions.set(tenant, mine + 1);
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        const left = (this.#executions.get(tenant) ?? 1) - 1;
        if (left > 0) this.#executions.set(tenant, left);
        else this.#executions.delete(tenant);
      },
    };
  }

  /** What a tenant uses and may use; for the owner of the home also what all use together, and the host. */
  async uses(tenant: string): Promise<ResourceUse[]> {
    const { db } = this.#needs;
    const up = await this.#up();
    const mine = up.filter((box) => box.tenant === tenant);
    const executions = this.#executions.get(tenant) ?? 0;
    const used = { ...(await possessionsOf(db, tenant)), ...runningOf(mine), executions };
    const { home, own } = await limitsFor(db, scopesOf(tenant));
    const ofTenant = usesOf('tenant', used, own);
    if (tenant !== '') return ofTenant;
    const all = {
      ...(await possessionsOf(db, undefined)),
      ...runningOf(up),
      executions: this.#allExecutions(),
    };
    const disk = this.#disk(home);
    return [
      ...ofTenant,
      ...usesOf('home', all, home),
      { scope: 'host', resource: 'memoryMiB', used: all.memoryMiB, limit: memoryLimit(home) },
      { scope: 'host', resource: 'freeDiskMiB', used: disk.freeMiB, limit: disk.lowestMiB },
    ];
  }

  /** Boxes that have a machine or come to. Those that come up are looked at first: what is not one any more is in the database. */
  async #up(): Promise<UpBox[]> {
    const comingUp = new Map(this.#comingUp);
    for (const box of await upBoxes(this.#needs.db)) comingUp.set(box.id, box);
    return [...comingUp.values()];
  }

  #allExecutions(): number {
    return [...this.#executions.values()].reduce((sum, count) => sum + count, 0);
  }

  #disk(home: StoredLimits): { readonly freeMiB: number; readonly lowestMiB: number } {
    const { bavail, blocks, bsize } = statfsSync(this.#needs.directory);
    const given = home.get('freeDiskMiB');
    const most = Math.floor((blocks * bsize * mostOfDisk) / bytesPerMiB);
    return {
      freeMiB: Math.floor((bavail * bsize) / bytesPerMiB),
      lowestMiB: given ?? Math.min(hostSettings.freeDiskMiB, most),
    };
  }

  #requireDisk(home: StoredLimits): void {
    const { freeMiB, lowestMiB } = this.#disk(home);
    if (freeMiB >= lowestMiB) return;
    throw new CryoboxError(
      'resource_exhausted',
      `${freeMiB} MiB are free where the home is, and ${lowestMiB} MiB are to stay free`,
      {
        hint: 'Remove boxes, snapshots or images and run `cryobox gc`, or let more be used: `cryobox limits set disk-free=0`.',
        details: { resource: 'freeDiskMiB', scope: 'host', limit: lowestMiB, used: freeMiB },
      },
    );
  }
}

function runningOf(boxes: readonly UpBox[]): Pick<Used, 'runningBoxes' | 'cpus' | 'memoryMiB'> {
  return {
    runningBoxes: boxes.length,
    cpus: boxes.reduce((sum, { cpus }) => sum + cpus, 0),
    memoryMiB: boxes.reduce((sum, { memory_mib }) => sum + memory_mib, 0),
  };
}

function usesOf(scope: ResourceUse['scope'], used: Used, limits: StoredLimits): ResourceUse[] {
  return limitedResources.map((resource) => {
    return { scope, resource, used: used[resource], limit: limits.get(resource) ?? null };
  });
}

interface Limited {
  readonly scope: 'tenant' | 'home';
  readonly tenant: string;
  readonly limits: StoredLimits;
}

function requireRoom({ scope, tenant, limits }: Limited, used: Partial<Used>, more: More): void {
  for (const resource of limitedResources) {
    const [limit, has, asked] = [limits.get(resource), used[resource] ?? 0, more[resource]];
    if (limit === undefined || asked === undefined || has + asked <= limit) continue;
    const who = scope === 'home' ? 'the home' : tenant === '' ? 'the owner of the home' : `tenant ${tenant}`;
    throw exhausted(
      `${who} has ${has} of at most ${limit} ${units[resource]}, and this needs ${asked} more`,
      {
        resource,
        scope,
        limit,
        used: has,
        asked,
      },
    );
  }
}

const overcommitOf = (home: StoredLimits): number =>
  home.get('memoryOvercommit') ?? hostSettings.memoryOvercommit;

/** What all guests together may write to, in MiB; null: whatever they like. */
function memoryLimit(home: StoredLimits): number | null {
  const factor = overcommitOf(home);
  return factor === 0 ? null : Math.floor(hostMemoryMiB() * factor);
}

function requireMemory(home: StoredLimits, used: number, asked: number): void {
  const together = memoryLimit(home);
  if (together === null) return;
  const host = hostMemoryMiB();
  const facts = { resource: 'memoryMiB', scope: 'host', asked } as const;
  if (asked > host) {
    const message = `a box of ${asked} MiB does not fit the host, which has ${host} MiB of memory`;
    throw exhausted(message, { ...facts, limit: host, used: 0 });
  }
  if (used + asked <= together) return;
  const most = `at most ${together} MiB of memory, ${overcommitOf(home)} times the host's`;
  throw exhausted(`running boxes have ${used} of ${most}, and this needs ${asked} more`, {
    ...facts,
    limit: together,
    used,
  });
}

interface Exhausted {
  readonly resource: LimitedResource;
  readonly scope: ResourceUse['scope'];
  readonly limit: number;
  readonly used: number;
  readonly asked: number;
}

function exhausted(message: string, details: Exhausted): CryoboxError {
  return new CryoboxError('resource_exhausted', message, {
    hint: 'Stop or remove what is not used, or have the owner of the home raise it: `cryobox limits ls` shows limits, `cryobox limits set` sets them.',
    details: { ...details },
  });
}
