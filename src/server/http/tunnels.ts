import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Box } from '../../api/index.js';
import { carry } from '../../base/carry.js';
import { Cuts } from '../../base/cuts.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import type { AccessWatch } from './access-watch.js';

/** Tunnels of one tenant: each takes some 500 bytes for as long as its box is there. */
const maxOfTenant = 1024;
const idBytes = 8;
/** Guessed by nobody: 128 bits. */
const secretBytes = 16;

/** Permission of a private tunnel: port, id and secret; and of one to a public box. */
const privateLabel = /^(\d{1,5})-([0-9a-f]{16})([0-9a-f]{32})$/i;
const publicLabel = /^(\d{1,5})-b[0-9a-z]{26}$/i;

/** A port of a box that somebody may reach. */
interface Tunnel {
  readonly id: string;
  readonly box: Box;
  readonly port: number;
  readonly tenant: string;
  readonly secret: Buffer;
  /** The `Authorization` header it was asked for with. */
  readonly authorization: string | undefined;
}

/** A public box, by the label of one of its ports. */
export type TunnelSource = (
  label: string,
) => Promise<{ readonly box: Box; watch(): { readonly signal: AbortSignal } & Disposable } | undefined>;

/** What a CONNECT leads to. */
interface Target {
  readonly box: Box;
  readonly port: number;
  watch(): { readonly signal: AbortSignal } & Disposable;
}

/** Who asked for a tunnel, and how they reach this server. */
export interface TunnelOrigin {
  /** The connection the request came on. */
  readonly socket: Socket;
  /** The `Host` header. */
  readonly host: string | undefined;
  readonly tenant: string;
  /** The `Authorization` header. */
  readonly authorization: string | undefined;
  /** Whether everybody reaches the ports of the box. */
  readonly isPublic: boolean;
}

/** Where a port of a box is reached. */
export interface TunnelAddress {
  /** For CONNECT, and with a domain of the server also for HTTP. */
  readonly uri: string;
  /** For HTTP and WebSockets: a name below the domain, or below `localhost`. */
  readonly url: string;
}

/**
 * Tunnels to ports of boxes (v1 contract, section 1.8): by HTTP CONNECT, and as HTTP at a name of their own. The client that
 * connects sends neither a key nor a path, so the authority it was given is the permission: it holds a secret, as the first
 * label of a host name with a `domain` (a wildcard name that leads here), else as the user information of RFC 3986, section
 * 3.2.1, which clients send back as it is. One works as often as wanted, until it is revoked, the key it was asked for with
 * holds no more, its box is gone, or this server closes. The ports of a public box have names without a secret.
 */
export class Tunnels {
  readonly #domain: string | undefined;
  readonly #logger: Logger;
  readonly #access: AccessWatch;
  readonly #publicBox: TunnelSource | undefined;
  readonly #tunnels = new Map<string, Tunnel>();
  readonly #cuts = new Cuts();
  /** Of tunnels that are open: no server closes while they are. */
  readonly #sockets = new Set<Duplex>();

  constructor(options: {
    domain?: string;
    logger: Logger;
    access: AccessWatch;
    publicBox?: TunnelSource | undefined;
  }) {
    this.#domain = options.domain;
    this.#logger = options.logger;
    this.#access = options.access;
    this.#publicBox = options.publicBox;
  }

  /** Where a port of a box is reached: the same for the same key until it is revoked. Throws `resource_exhausted`. */
  async open(box: Box, port: number, origin: TunnelOrigin): Promise<TunnelAddress> {
    if (origin.socket.localAddress === undefined) {
      throw new CryoboxError(
        'unsupported',
        'Tunnels need a server on TCP; connect to the port of the box instead',
      );
    }
    if (origin.isPublic && this.#publicBox)
      return this.#told(`${port}-b${box.id.replace(/^box_/, '')}`, origin);
    const { id, secret } = this.#known(box, port, origin) ?? (await this.#make(box, port, origin));
    return this.#told(`${port}-${id}${secret.toString('hex')}`, origin);
  }

  /** Ends the tunnels to a port of a box, and what goes through them. */
  revoke(boxId: string, port: number): void {
    for (const tunnel of this.#tunnels.values())
      if (tunnel.box.id === boxId && tunnel.port === port) this.#drop(tunnel);
  }

  /** The label of a host name that is one of a private tunnel, whether there is one or not. */
  labelOf(host: string | undefined): string | undefined {
    const label = host?.split('.', 1)[0] ?? '';
    return label !== host && privateLabel.test(label) ? label.toLowerCase() : undefined;
  }

  /** The tunnel that a label permits. Undefined when it permits nothing. */
  async find(label: string): Promise<Tunnel | undefined> {
    const [, port, id = '', secret = ''] = privateLabel.exec(label) ?? [];
    const tunnel = this.#tunnels.get(id.toLowerCase());
    if (!tunnel || tunnel.port !== Number(port)) return undefined;
    if (!timingSafeEqual(tunnel.secret, Buffer.from(secret, 'hex'))) return undefined;
    if (await this.#access.allows(tunnel.authorization)) return tunnel;
    this.#drop(tunnel);
    return undefined;
  }

  /** Something that goes through a tunnel: its signal is raised when that ends. To be disposed of at its end. */
  watch({ id, authorization }: Tunnel): { readonly signal: AbortSignal } & Disposable {
    const cut = this.#cuts.add(id);
    const revoked = new AbortController();
    const forget = this.#access.add(authorization, () => revoked.abort());
    return {
      signal: AbortSignal.any([cut.signal, revoked.signal]),
      [Symbol.dispose]: () => {
        cut[Symbol.dispose]();
        forget();
      },
    };
  }

  /** Serves a CONNECT: its authority says where to. */
  connect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    this.#take(request.url ?? '').then(
      (target) => {
        if (target) this.#serve(target, socket, head);
        else refuse(socket, '404 Not Found');
      },
      (error: unknown) => {
        this.#logger.warn('a tunnel cannot be opened', { error: messageOf(error) });
        refuse(socket, '500 Internal Server Error');
      },
    );
  }

  /** Ends all tunnels. */
  close(): void {
    this.#tunnels.clear();
    for (const socket of this.#sockets) socket.destroy();
  }

  #known(box: Box, port: number, { tenant, authorization }: TunnelOrigin): Tunnel | undefined {
    for (const tunnel of this.#tunnels.values()) {
      const isSame = tunnel.box.id === box.id && tunnel.port === port && tunnel.tenant === tenant;
      if (isSame && tunnel.authorization === authorization) return tunnel;
    }
    return undefined;
  }

  async #make(box: Box, port: number, { tenant, authorization }: TunnelOrigin): Promise<Tunnel> {
    await this.#refuseMore(tenant);
    const id = randomBytes(idBytes).toString('hex');
    const tunnel = { id, box, port, tenant, authorization, secret: randomBytes(secretBytes) };
    this.#tunnels.set(id, tunnel);
    return tunnel;
  }

  #drop({ id }: Tunnel): void {
    this.#tunnels.delete(id);
    this.#cuts.cut(id);
  }

  async #refuseMore(tenant: string): Promise<void> {
    const ofTenant = [...this.#tunnels.values()].filter((each) => each.tenant === tenant);
    if (ofTenant.length < maxOfTenant) return;
    // Those of boxes that are gone make room.
    let left = ofTenant.length;
    for (const tunnel of ofTenant) {
      if (!(await isGone(tunnel.box))) continue;
      this.#drop(tunnel);
      left -= 1;
    }
    if (left < maxOfTenant) return;
    throw new CryoboxError('resource_exhausted', `there are ${maxOfTenant} tunnels already`, {
      hint: 'End those that are not needed: DELETE boxes/{id}/network/tunnel?port=PORT.',
      details: { limit: maxOfTenant },
    });
  }

  #told(permission: string, { host, socket }: TunnelOrigin): TunnelAddress {
    const scheme = 'encrypted' in socket ? 'https' : 'http';
    const { localAddress = '', localPort } = socket;
    const address = localAddress.includes(':') ? `[${localAddress}]` : localAddress;
    const own = host || `${address}:${localPort}`;
    const port = /:\d+$/.exec(own)?.[0] ?? '';
    const url = `${scheme}://${permission}.${this.#domain ?? 'localhost'}${port}/`;
    return { uri: this.#domain === undefined ? `${scheme}://${permission}@${own}/` : url, url };
  }

  /** What an authority permits. Undefined when that is nothing. */
  async #take(authority: string): Promise<Target | undefined> {
    const label = authority.split(/[.@]/, 1)[0] ?? '';
    const tunnel = await this.find(label);
    if (tunnel) return { ...tunnel, watch: () => this.watch(tunnel) };
    const port = Number(publicLabel.exec(label)?.[1] ?? 0);
    const found = port === 0 ? undefined : await this.#publicBox?.(label);
    return found && { port, ...found };
  }

  #serve({ box, port, watch }: Target, socket: Duplex, head: Buffer): void {
    const watched = watch();
    const cut = (): void => {
      socket.destroy();
    };
    watched.signal.addEventListener('abort', cut, { once: true });
    this.#sockets.add(socket);
    socket.once('close', () => {
      watched.signal.removeEventListener('abort', cut);
      watched[Symbol.dispose]();
      this.#sockets.delete(socket);
    });
    // By this dialect traffic never brings a box up.
    box
      .dial(port, { wake: false })
      .then(
        (connection) => {
          socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
          return carry(socket, connection, head);
        },
        () => refuse(socket, '502 Bad Gateway'),
      )
      .catch((error: unknown) => this.#logger.debug('tunnel ended', { error: messageOf(error) }));
  }
}

async function isGone(box: Box): Promise<boolean> {
  try {
    await box.info();
    return false;
  } catch (error) {
    return isCryoboxError(error, 'not_found');
  }
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
}
