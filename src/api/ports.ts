import type { CallOptions } from './common.js';

/** A TCP port of the host that leads to one of a box. */
export interface PublishOptions {
  /** Port in the box, 1 to 65535; the program may listen on 127.0.0.1 or ::1 there. */
  readonly guestPort: number;
  /** Port of the engine's host, 1 to 65535. @default one that is free */
  readonly hostPort?: number | undefined;
  /** Address of the engine's host, IPv4 or IPv6; `0.0.0.0` and `::` are all. @default '127.0.0.1' */
  readonly hostIp?: string | undefined;
}

/** A published port of a box. */
export interface PublishedPort {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly hostIp: string;
  /** Why nothing listens: another program took the port while no engine ran. Null: it listens. */
  readonly failure: string | null;
}

/**
 * The published ports of a box: the engine listens on them as long as the box exists, and carries what comes to the box. A
 * connection brings a box up that does not run when its `autoResume` allows. At most 32 ports a box, and 256 connections a
 * port at once. They belong to this box: forks, clones, templates and archives have none.
 */
export interface BoxPorts {
  /** Those that are published, whether the box runs or not. */
  list(options?: CallOptions): Promise<PublishedPort[]>;
  /**
   * Publishes a port; one that is published already is given as it is. `already_exists` when the port of the host is in use,
   * `invalid_argument` for a bad port or address, `permission_denied` where the host refuses the port,
   * `resource_exhausted` over 32.
   */
  publish(options: PublishOptions & CallOptions): Promise<PublishedPort>;
  /** Stops listening, and ends the connections. `not_found` when the port of the host is not one of the box's. */
  unpublish(hostPort: number, options?: CallOptions & { readonly hostIp?: string }): Promise<void>;
}
