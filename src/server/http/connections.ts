import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { openFileLimits } from '../../base/open-files.js';
import type { ServerLimits } from './limits.js';

/** Descriptors kept for the engine itself, at the least: machines, layers, the database, archives. */
const minReservedFiles = 256;
/** A server with fewer connections than this serves nobody. */
const minConnections = 8;

/** Connections a server may have: those of its limits, as far as descriptors go that the engine does not need. */
export function connectionsWithin(limit: number, openFiles = openFileLimits().soft): number {
  const spare = openFiles - Math.max(minReservedFiles, openFiles / 2);
  return Math.max(minConnections, Math.min(limit, Math.floor(Number.isNaN(spare) ? limit : spare)));
}

interface Connection {
  readonly socket: Socket;
  readonly address: string;
  /** Requests under way; an upgraded connection has one for as long as it lives. */
  busy: number;
  /** Whether a request on it was let in. */
  proven: boolean;
}

/**
 * The TCP connections of one server. One who holds many of them, idle, cannot shut others out: a new connection takes
 * the place of the one that was idle for longest, of those first on which no request was let in yet.
 */
export class Connections {
  readonly #max: number;
  readonly #maxUnproven: number;
  readonly #keepAliveMs: number;
  /** By peer, in the order in which they were last used. */
  readonly #byPeer = new Map<string, Connection>();

  constructor(
    limits: Pick<ServerLimits, 'connections' | 'unprovenConnections' | 'unprovenKeepAliveMs'>,
    openFiles?: number,
  ) {
    this.#max = connectionsWithin(limits.connections, openFiles);
    this.#maxUnproven = limits.unprovenConnections;
    this.#keepAliveMs = limits.unprovenKeepAliveMs;
  }

  /** Connections there may be. */
  get max(): number {
    return this.#max;
  }

  /** Watches the connections of a server from now on. */
  watch(server: Server): void {
    // Of TLS this is the connection underneath, so that one whose handshake does not end counts too.
    server.on('connection', (socket: Socket) => this.#opened(socket));
    server.on('request', (request: IncomingMessage, response: ServerResponse) =>
      this.#asked(request, response),
    );
    for (const kind of ['upgrade', 'connect']) {
      server.on(kind, (request: IncomingMessage) => {
        const connection = this.#byPeer.get(peerOf(request.socket));
        if (connection) connection.busy += 1;
      });
    }
  }

  /** Says that a request on a connection was let in. */
  prove(socket: Socket): void {
    const connection = this.#byPeer.get(peerOf(socket));
    if (connection) connection.proven = true;
  }

  #opened(socket: Socket): void {
    const peer = peerOf(socket);
    const connection = { socket, address: socket.remoteAddress ?? '', busy: 0, proven: false };
    if (!this.#makeRoom(connection.address)) {
      socket.destroy();
      return;
    }
    this.#byPeer.set(peer, connection);
    socket.once('close', () => {
      if (this.#byPeer.get(peer) === connection) this.#byPeer.delete(peer);
    });
  }

  #asked({ socket }: IncomingMessage, response: ServerResponse): void {
    const peer = peerOf(socket);
    const connection = this.#byPeer.get(peer);
    if (!connection) return;
    connection.busy += 1;
    response.once('close', () => {
      connection.busy -= 1;
      if (this.#byPeer.delete(peer)) this.#byPeer.set(peer, connection);
      // Node has just set the time of all connections, which is made for clients that come back.
      if (!connection.proven && !socket.destroyed) socket.setTimeout(this.#keepAliveMs);
    });
  }

  /** Ends an idle connection when there is one too many. False when none is idle. */
  #makeRoom(address: string): boolean {
    const ofAddress = (it: Connection): boolean => !it.proven && it.address === address;
    let unproven = 0;
    for (const connection of this.#byPeer.values()) unproven += ofAddress(connection) ? 1 : 0;
    if (unproven >= this.#maxUnproven) return this.#end(ofAddress);
    if (this.#byPeer.size < this.#max) return true;
    return this.#end((it) => !it.proven) || this.#end(() => true);
  }

  #end(which: (connection: Connection) => boolean): boolean {
    for (const [peer, connection] of this.#byPeer) {
      if (connection.busy > 0 || !which(connection)) continue;
      this.#byPeer.delete(peer);
      connection.socket.destroy();
      return true;
    }
    return false;
  }
}

/** The same for a connection and what TLS makes of it. */
function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
