import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Box, PortConnection } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { CryoboxError, messageOf } from '../errors.js';

/** How long a tunnel that was asked for waits to be used. */
const lifetimeMs = 60_000;
/** Tunnels waiting at once: each may hold a listening socket. */
const maxWaiting = 256;

interface Target {
  readonly box: Box;
  readonly port: number;
}

interface Waiting extends Target {
  readonly end: () => void;
}

/** Who asked for a tunnel, and how they reach this server. */
export interface TunnelOrigin {
  /** The connection the request came on. */
  readonly socket: Socket;
  /** The `Host` header. */
  readonly host: string | undefined;
}

/** Writes what comes from the client into the box, and back, until both directions have ended. */
async function splice(socket: Duplex, head: Buffer, connection: PortConnection): Promise<void> {
  const upward = async (): Promise<void> => {
    if (head.length > 0) await connection.input.write(head);
    for await (const chunk of socket) await connection.input.write(chunk as Buffer);
    await connection.input.end();
  };
  try {
    await Promise.all([upward(), pipeline(connection.output, socket)]);
  } finally {
    socket.destroy();
    await connection.close();
  }
}

/**
 * Tunnels to ports of boxes by HTTP CONNECT (v1 contract, section 1.8). The client that connects sends neither a key
 * nor a path, so the authority it was given is the permission: with a `domain` (a wildcard name that leads here) a
 * host name that holds a secret, else a listening socket of its own that takes one connection from the same address.
 */
export class Tunnels {
  readonly #domain: string | undefined;
  readonly #logger: Logger;
  readonly #byToken = new Map<string, Waiting>();
  readonly #listeners = new Set<Server>();

  constructor(options: { domain?: string; logger: Logger }) {
    this.#domain = options.domain;
    this.#logger = options.logger;
  }

  /** The URI to send CONNECT to. It works once, within a minute. */
  async open(box: Box, port: number, origin: TunnelOrigin): Promise<string> {
    if (this.#byToken.size + this.#listeners.size >= maxWaiting) {
      throw new CryoboxError('resource_exhausted', `${maxWaiting} tunnels wait for their client already`);
    }
    if (this.#domain !== undefined) return this.#openNamed({ box, port }, this.#domain, origin);
    return await this.#openListener({ box, port }, origin);
  }

  /** Serves a CONNECT on the main port: the first label of the host name says where to. */
  connect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const token = /^\d+-([0-9a-f]{32})\./.exec(request.url ?? '')?.[1] ?? '';
    const waiting = this.#byToken.get(token);
    if (!waiting) {
      socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
      return;
    }
    waiting.end();
    this.#serve(waiting, socket, head);
  }

  /** Ends all tunnels that wait. */
  close(): void {
    for (const waiting of this.#byToken.values()) waiting.end();
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
  }

  #openNamed(target: Target, domain: string, origin: TunnelOrigin): string {
    const token = randomBytes(16).toString('hex');
    const timer = setTimeout(() => this.#byToken.delete(token), lifetimeMs);
    timer.unref();
    const end = (): void => {
      clearTimeout(timer);
      this.#byToken.delete(token);
    };
    this.#byToken.set(token, { ...target, end });
    const port = /:(\d+)$/.exec(origin.host ?? '')?.[1];
    return `http://${target.port}-${token}.${domain}${port ? `:${port}` : ''}/`;
  }

  async #openListener(target: Target, origin: TunnelOrigin): Promise<string> {
    const { localAddress, remoteAddress } = origin.socket;
    if (localAddress === undefined) {
      throw new CryoboxError(
        'unsupported',
        'Tunnels need a server on TCP; connect to the port of the box instead',
      );
    }
    const listener = createServer((_request, response) => response.writeHead(405).end());
    const timer = setTimeout(() => listener.close(), lifetimeMs);
    timer.unref();
    listener.on('close', () => {
      clearTimeout(timer);
      this.#listeners.delete(listener);
    });
    listener.on('connect', (_request, socket: Socket, head) => {
      if (socket.remoteAddress !== remoteAddress) {
        socket.destroy();
        return;
      }
      listener.close();
      this.#serve(target, socket, head);
    });
    this.#listeners.add(listener);
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(0, localAddress, resolve);
    });
    const { port } = listener.address() as AddressInfo;
    const host = (origin.host ?? localAddress).replace(/:\d+$/, '');
    return `http://${host}:${port}/`;
  }

  #serve(target: Target, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    const refuse = (): void => {
      socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
    };
    target.box
      .dial(target.port)
      .then((connection) => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        return splice(socket, head, connection);
      }, refuse)
      .catch((error: unknown) => this.#logger.debug('tunnel ended', { error: messageOf(error) }));
  }
}
