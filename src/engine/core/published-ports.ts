import { boxLimits, type PublishedPort, type PublishOptions } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import {
  allPorts,
  type Database,
  deletePort,
  type GroupCommit,
  insertPorts,
  type PortRow,
} from '../../store/index.js';
import { type ConnectPort, type HostPort, PortListener } from './port-listener.js';

/** Of a home: each takes a descriptor of the engine, of which a process has 1,024 by default. */
const maxInHome = 256;
const defaultHostIp = '127.0.0.1';

interface Needs {
  readonly db: Database;
  readonly commits: GroupCommit;
  readonly connect: ConnectPort;
  readonly logger: Logger;
}

/** A published port: one that listens, or one that could not be opened again. */
type Entry = { readonly listener: PortListener } | { readonly port: HostPort; readonly failure: string };

/** Ports that are taken for a box that does not exist yet; given back when they are disposed of before it does. */
export interface TakenPorts extends Disposable {
  /** What is to be stored with the box. */
  rowsFor(boxId: string): PortRow[];
  /** They are the box's from now on. */
  give(boxId: string): void;
}

/** The ports of the host that lead to boxes, as long as the engine runs. */
export class PublishedPorts {
  readonly #needs: Needs;
  readonly #ofBox = new Map<string, Entry[]>();
  #taken = 0;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  /** Listens again on the ports that boxes have. One that another program has taken is told by its `failure`. */
  async reopen(): Promise<void> {
    for (const row of await allPorts(this.#needs.db)) {
      const port = { hostIp: row.host_ip, hostPort: row.host_port, guestPort: row.guest_port };
      const entry = await this.#open(port).catch((error: unknown): Entry => {
        this.#needs.logger.warn('cannot publish a port', { box: row.box_id, reason: messageOf(error) });
        return { port, failure: messageOf(error) };
      });
      this.#entries(row.box_id).push(entry);
      if ('listener' in entry) entry.listener.give(row.box_id);
    }
  }

  /** The ports of a box, in the order of the host's. */
  of(boxId: string): PublishedPort[] {
    return (this.#ofBox.get(boxId) ?? [])
      .map(published)
      .sort((a, b) => a.hostPort - b.hostPort || a.hostIp.localeCompare(b.hostIp));
  }

  /** Whether any box has one. */
  get isUsed(): boolean {
    return this.#ofBox.size > 0;
  }

  /** Takes ports for a box that is to be made. Throws what {@link PortListener.open} does; then none is taken. */
  async take(wanted: readonly PublishOptions[] = []): Promise<TakenPorts> {
    const listeners: PortListener[] = [];
    let given = false;
    const taken: TakenPorts = {
      rowsFor: (boxId) => listeners.map((it) => rowOf(boxId, it)),
      give: (boxId) => {
        given = true;
        this.#taken -= listeners.length;
        for (const listener of listeners) this.#add(boxId, listener);
      },
      [Symbol.dispose]: () => {
        if (given) return;
        this.#taken -= listeners.length;
        for (const listener of listeners) listener.close();
      },
    };
    try {
      for (const port of wanted) {
        const { listener } = await this.#open(hostPortOf(port));
        listeners.push(listener);
        this.#taken += 1;
      }
      return taken;
    } catch (error) {
      taken[Symbol.dispose]();
      throw error;
    }
  }

  /** Publishes a port of a box. Called under the box's lock. */
  async publish(boxId: string, options: PublishOptions): Promise<PublishedPort> {
    const wanted = hostPortOf(options);
    const entries = this.#ofBox.get(boxId) ?? [];
    const same = entries.find((it) => isSame(portOf(it), wanted));
    if (same && 'listener' in same) return published(same);
    if (!same && entries.length >= boxLimits.ports) {
      throw full(`the box has ${boxLimits.ports} published ports already`, boxLimits.ports);
    }
    const { listener } = await this.#open(wanted);
    try {
      // One that could not be opened again has its row already.
      if (same) entries.splice(entries.indexOf(same), 1);
      else await this.#needs.commits.run((tx) => insertPorts(tx, [rowOf(boxId, listener)]));
    } catch (error) {
      listener.close();
      throw error;
    }
    this.#add(boxId, listener);
    return published({ listener });
  }

  /** Ends a published port of a box. Called under the box's lock. Throws `not_found`. */
  async unpublish(boxId: string, hostPort: number, hostIp?: string): Promise<void> {
    const entries = this.#ofBox.get(boxId) ?? [];
    const entry = entries.find((it) => {
      const port = portOf(it);
      return port.hostPort === hostPort && (hostIp === undefined || port.hostIp === hostIp);
    });
    if (!entry) throw gone(boxId, hostPort);
    await this.#needs.commits.run((tx) => deletePort(tx, rowOf(boxId, portOf(entry))));
    entries.splice(entries.indexOf(entry), 1);
    if (entries.length === 0) this.#ofBox.delete(boxId);
    if ('listener' in entry) entry.listener.close();
  }

  /** Ends the ports of a box that is gone from the database. */
  drop(boxId: string): void {
    const entries = this.#ofBox.get(boxId) ?? [];
    this.#ofBox.delete(boxId);
    for (const entry of entries) if ('listener' in entry) entry.listener.close();
  }

  /** Stops listening; the next engine listens again. */
  close(): void {
    for (const boxId of [...this.#ofBox.keys()]) this.drop(boxId);
  }

  async #open(port: HostPort): Promise<{ listener: PortListener }> {
    let inHome = this.#taken;
    for (const entries of this.#ofBox.values()) inHome += entries.length;
    if (inHome >= maxInHome) throw full(`the home has ${maxInHome} published ports already`, maxInHome);
    return { listener: await PortListener.open(port, this.#needs) };
  }

  #add(boxId: string, listener: PortListener): void {
    this.#entries(boxId).push({ listener });
    listener.give(boxId);
  }

  #entries(boxId: string): Entry[] {
    const known = this.#ofBox.get(boxId);
    if (known) return known;
    const entries: Entry[] = [];
    this.#ofBox.set(boxId, entries);
    return entries;
  }
}

const portOf = (entry: Entry): HostPort => ('listener' in entry ? entry.listener : entry.port);

const hostPortOf = ({ guestPort, hostPort = 0, hostIp = defaultHostIp }: PublishOptions): HostPort => ({
  guestPort,
  hostPort,
  hostIp,
});

/** Whether a port is what is wanted; any of the host's is where none was named. */
function isSame(port: HostPort, wanted: HostPort): boolean {
  const isPort = wanted.hostPort === 0 || port.hostPort === wanted.hostPort;
  return port.guestPort === wanted.guestPort && port.hostIp === wanted.hostIp && isPort;
}

function published(entry: Entry): PublishedPort {
  const { guestPort, hostPort, hostIp } = portOf(entry);
  return { guestPort, hostPort, hostIp, failure: 'failure' in entry ? entry.failure : null };
}

function rowOf(boxId: string, { guestPort, hostPort, hostIp }: HostPort): PortRow {
  return { host_ip: hostIp, host_port: hostPort, box_id: boxId, guest_port: guestPort };
}

function full(what: string, limit: number): CryoboxError {
  return new CryoboxError('resource_exhausted', what, {
    hint: 'Unpublish ports that are not needed any more.',
    details: { limit },
  });
}

function gone(boxId: string, hostPort: number): CryoboxError {
  return new CryoboxError('not_found', `port ${hostPort} of the host is not published for box ${boxId}`, {
    hint: '`cryobox port BOX` lists those that are.',
    details: { box: boxId, hostPort },
  });
}
