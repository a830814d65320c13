import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { PortConnection } from '../../api/index.js';
import { carry, reset } from '../../base/carry.js';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';

/** Connections of one port at once; each holds two descriptors and the buffers of its streams. More are closed at once. */
const maxConnections = 256;
/** How long a client waits for a box that has to be brought up: a minute is what most clients wait. */
const connectTimeoutMs = 60_000;

/** Connects to a port of a box; brings it up when it may. */
export type ConnectPort = (boxId: string, port: number, signal: AbortSignal) => Promise<PortConnection>;

/** Where a box is to be reached on the host. */
export interface HostPort {
  readonly hostIp: string;
  /** 0: one that is free. */
  readonly hostPort: number;
  readonly guestPort: number;
}

interface ListenerNeeds {
  readonly connect: ConnectPort;
  readonly logger: Logger;
}

/** A port of the host on which somebody listens for a box. Until it knows the box, clients wait. */
export class PortListener implements HostPort {
  readonly hostIp: string;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly #server: Server;
  readonly #needs: ListenerNeeds;
  readonly #sockets = new Set<Socket>();
  readonly #ended = new AbortController();
  #boxId: string | undefined;

  private constructor(port: HostPort, server: Server, needs: ListenerNeeds) {
    this.hostIp = port.hostIp;
    this.hostPort = (server.address() as AddressInfo).port;
    this.guestPort = port.guestPort;
    this.#server = server;
    this.#needs = needs;
    server.maxConnections = maxConnections;
    server.on('connection', (socket) => this.#take(socket));
    server.on('error', (error) => needs.logger.warn('a published port fails', { reason: messageOf(error) }));
  }

  /** Takes the port. Throws `already_exists`, `permission_denied`, `invalid_argument`, `resource_exhausted`. */
  static async open(port: HostPort, needs: ListenerNeeds): Promise<PortListener> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(refusal(port, error)));
      server.listen({ host: port.hostIp, port: port.hostPort, exclusive: true }, resolve);
    });
    server.removeAllListeners('error');
    return new PortListener(port, server, needs);
  }

  /** Carries what comes, and what has come, to a box. */
  give(boxId: string): void {
    this.#boxId = boxId;
    for (const socket of this.#sockets) this.#carry(boxId, socket);
  }

  /** Ends it and its connections. */
  close(): void {
    this.#ended.abort();
    this.#server.close();
    for (const socket of this.#sockets) reset(socket);
  }

  #take(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    if (this.#boxId !== undefined) this.#carry(this.#boxId, socket);
  }

  #carry(boxId: string, socket: Socket): void {
    const { connect, logger } = this.#needs;
    const gone = new AbortController();
    socket.once('close', () => gone.abort());
    const given = [gone.signal, this.#ended.signal, AbortSignal.timeout(connectTimeoutMs)];
    const carried = connect(boxId, this.guestPort, AbortSignal.any(given))
      .then((connection) => carry(socket, connection))
      .catch((error: unknown) => {
        reset(socket);
        logger.debug('a connection to a published port ended', { box: boxId, reason: messageOf(error) });
      });
    inBackground(carried, 'carry a connection to a published port', logger);
  }
}

function refusal({ hostIp, hostPort }: HostPort, error: NodeJS.ErrnoException): CryoboxError {
  const where = `${hostIp.includes(':') ? `[${hostIp}]` : hostIp}:${hostPort}`;
  const details = { hostIp, hostPort, errno: error.code ?? null };
  switch (error.code) {
    case 'EADDRINUSE':
      return new CryoboxError('already_exists', `port ${where} of the host is in use`, {
        hint: 'Choose another port, or none: one that is free is taken then.',
        details,
      });
    case 'EACCES':
    case 'EPERM':
      return new CryoboxError('permission_denied', `the host does not give port ${where}`, {
        hint: 'Choose a port from 1024 on, or run the engine as a user that may have this one.',
        details,
      });
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
      return new CryoboxError('invalid_argument', `${hostIp} is no address of the host`, {
        hint: 'Use 127.0.0.1, 0.0.0.0, or an address that `ip address` shows.',
        details,
      });
    default:
      return new CryoboxError('resource_exhausted', `port ${where} cannot be had: ${messageOf(error)}`, {
        hint: 'Raise the limit of open files (`ulimit -n`), or remove ports that are not needed any more.',
        details,
        cause: error,
      });
  }
}
