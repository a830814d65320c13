import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Box } from '../api/index.js';
import { carry } from '../base/carry.js';
import { inBackground } from '../base/in-background.js';
import type { Logger } from '../base/log.js';
import { CryoboxError } from '../errors.js';
import { mcpLimits } from './options.js';

interface PublishedPort {
  readonly boxId: string;
  readonly port: number;
  readonly server: Server;
  readonly sockets: Set<Socket>;
  readonly hostPort: number;
}

/** Ports of boxes that programs of this host reach on its loopback, as long as the conversation goes on. */
export class PublishedPorts {
  readonly #ports: PublishedPort[] = [];
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Listens for a port of a box; the port of the host, the same one for the same port. `resource_exhausted` over 16. */
  async publish(box: Box, port: number): Promise<number> {
    const known = this.#ports.find((it) => it.boxId === box.id && it.port === port);
    if (known) return known.hostPort;
    if (this.#ports.length >= mcpLimits.ports) {
      throw new CryoboxError('resource_exhausted', `${mcpLimits.ports} ports are published already`, {
        hint: 'Remove a box whose ports are not needed any more.',
        details: { limit: mcpLimits.ports },
      });
    }
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      socket.on('error', () => undefined);
      inBackground(connect(box, port, socket), 'connect to a port of a box', this.#logger);
    });
    server.maxConnections = mcpLimits.portConnections;
    const hostPort = await new Promise<number>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
    this.#ports.push({ boxId: box.id, port, server, sockets, hostPort });
    return hostPort;
  }

  /** Ends the ports of a box. */
  close(boxId: string): void {
    this.#end((it) => it.boxId === boxId);
  }

  closeAll(): void {
    this.#end(() => true);
  }

  #end(which: (port: PublishedPort) => boolean): void {
    for (const port of this.#ports.filter(which)) {
      this.#ports.splice(this.#ports.indexOf(port), 1);
      port.server.close();
      for (const socket of port.sockets) socket.destroy();
    }
  }
}

/** Carries bytes between a connection of the host and a port of a box until both have ended. */
async function connect(box: Box, port: number, socket: Socket): Promise<void> {
  try {
    await carry(socket, await box.dial(port));
  } finally {
    socket.destroy();
  }
}
