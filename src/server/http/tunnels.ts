import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Box } from '../../api/index.js';
import { carry, portStream } from '../../base/carry.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import type { AccessWatch } from './access-watch.js';

/** How long a tunnel that was asked for waits to be used. */
const lifetimeMs = 60_000;
/** Tunnels of one tenant that wait at once: a client opens what it asked for at once. */
const maxWaiting = 256;
const idBytes = 8;
/** Guessed by nobody within {@link lifetimeMs}. */
const secretBytes = 16;

interface Target {
  readonly box: Box;
  readonly port: number;
}

interface Waiting extends Target {
  readonly tenant: string;
  readonly secret: Buffer;
  /** The `Authorization` header it was asked for with. */
  readonly authorization: string | undefined;
  readonly timer: NodeJS.Timeout;
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
}

/**
 * Tunnels to ports of boxes by HTTP CONNECT (v1 contract, section 1.8). The client that connects sends neither a key
 * nor a path, so the authority it was given is the permission: it holds a secret, as the first label of a host name
 * with a `domain` (a wildcard name that leads here), else as the user information of RFC 3986, section 3.2.1, which
 * clients send back as it is.
 */
export class Tunnels {
  readonly #domain: string | undefined;
  readonly #logger: Logger;
  readonly #access: AccessWatch;
  readonly #waiting = new Map<string, Waiting>();
  /** Of tunnels that are open: no server closes while they are. */
  readonly #sockets = new Set<Duplex>();

  constructor(options: { domain?: string; logger: Logger; access: AccessWatch }) {
    this.#domain = options.domain;
    this.#logger = options.logger;
    this.#access = options.access;
  }

  /** The URI to send CONNECT to. It works once, within a minute, and as long as the key it was asked for with holds. */
  open(box: Box, port: number, origin: TunnelOrigin): string {
    const { socket, tenant, authorization } = origin;
    if (socket.localAddress === undefined) {
      throw new CryoboxError(
        'unsupported',
        'Tunnels need a server on TCP; connect to the port of the box instead',
      );
    }
    this.#refuseMore(tenant);
    const id = randomBytes(idBytes).toString('hex');
    const secret = randomBytes(secretBytes);
    const timer = setTimeout(() => this.#waiting.delete(id), lifetimeMs).unref();
    this.#waiting.set(id, { box, port, tenant, authorization, secret, timer });
    const scheme = 'encrypted' in socket ? 'https' : 'http';
    return `${scheme}://${this.#authority(`${port}-${id}${secret.toString('hex')}`, origin)}/`;
  }

  /** Serves a CONNECT: its authority says where to. */
  connect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    this.#take(request.url ?? '').then(
      (waiting) => {
        if (waiting) this.#serve(waiting, socket, head);
        else refuse(socket, '404 Not Found');
      },
      (error: unknown) => {
        this.#logger.warn('a tunnel cannot be opened', { error: messageOf(error) });
        refuse(socket, '500 Internal Server Error');
      },
    );
  }

  /** Ends all tunnels, those that wait and those that are open. */
  close(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
    for (const socket of this.#sockets) socket.destroy();
  }

  #refuseMore(tenant: string): void {
    let waiting = 0;
    for (const each of this.#waiting.values()) waiting += each.tenant === tenant ? 1 : 0;
    if (waiting < maxWaiting) return;
    throw new CryoboxError('resource_exhausted', `${maxWaiting} tunnels wait for their client already`, {
      hint: 'Connect to those that were asked for; each waits for a minute.',
      details: { limit: maxWaiting },
    });
  }

  #authority(permission: string, { host, socket }: TunnelOrigin): string {
    if (this.#domain !== undefined) {
      const port = /:(\d+)$/.exec(host ?? '')?.[1];
      return `${permission}.${this.#domain}${port ? `:${port}` : ''}`;
    }
    const { localAddress = '', localPort } = socket;
    const address = localAddress.includes(':') ? `[${localAddress}]` : localAddress;
    return `${permission}@${host || `${address}:${localPort}`}`;
  }

  /** What an authority permits, which is gone then. Undefined when that is nothing. */
  async #take(authority: string): Promise<Waiting | undefined> {
    const [, port, id = '', secret = ''] =
      /^(\d{1,5})-([0-9a-f]{16})([0-9a-f]{32})[.@]/.exec(authority) ?? [];
    const waiting = this.#waiting.get(id);
    if (!waiting || waiting.port !== Number(port)) return undefined;
    if (!timingSafeEqual(waiting.secret, Buffer.from(secret, 'hex'))) return undefined;
    clearTimeout(waiting.timer);
    this.#waiting.delete(id);
    return (await this.#access.allows(waiting.authorization)) ? waiting : undefined;
  }

  #serve({ box, port, authorization }: Waiting, socket: Duplex, head: Buffer): void {
    const forget = this.#access.add(authorization, () => socket.destroy());
    this.#sockets.add(socket);
    socket.once('close', () => {
      forget();
      this.#sockets.delete(socket);
    });
    // By this dialect traffic never brings a box up.
    box
      .dial(port, { wake: false })
      .then(
        (connection) => {
          socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
          return carry(socket, portStream(connection), head);
        },
        () => refuse(socket, '502 Bad Gateway'),
      )
      .catch((error: unknown) => this.#logger.debug('tunnel ended', { error: messageOf(error) }));
  }
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
}
