import { createServer as createHttpServer, type IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Leaves } from './certificates.js';
import { type Destination, forward, forwardUpgrade, newAgent, refuse } from './forward.js';
import type { HandedOver, InterceptedSecret, InterceptorOrder, InterceptorRefusal } from './messages.js';
import { NotForThisServer, type RequestParts, substitute } from './substitute.js';

/** The first line: a token, a name and an address. */
const maxLineBytes = 1024;
const lineTimeoutMs = 10_000;
/** Connections of one box, and of all: each may hold some 100 KiB. */
const maxOfBox = 256;
const maxConnections = 1024;
const maxHeaderBytes = 64 * 1024;
const headTimeoutMs = 60_000;
const idleTimeoutMs = 75_000;
/** What one box's refusals are told of in a second: programs try again and again. */
const toldASecond = 10;

interface ServedBox {
  secrets: readonly InterceptedSecret[];
  roots: readonly string[] | undefined;
  readonly sockets: Set<Socket>;
  told: { since: number; count: number };
}

interface Connection {
  readonly box: ServedBox;
  readonly said: HandedOver;
  readonly to: Destination;
}

/** Ends the TLS of boxes' connections, puts values in place of placeholders, and sends requests on. */
export class InterceptingServer {
  readonly #boxes = new Map<string, ServedBox>();
  readonly #connections = new WeakMap<object, Connection>();
  readonly #leaves: Leaves;
  readonly #tell: (refusal: InterceptorRefusal) => void;
  readonly #http = createHttpServer({
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headTimeoutMs,
    keepAliveTimeout: idleTimeoutMs,
    // Bodies may take as long as they take.
    requestTimeout: 0,
  });

  constructor(leaves: Leaves, tell: (refusal: InterceptorRefusal) => void) {
    this.#leaves = leaves;
    this.#tell = tell;
    const onRequest = (request: IncomingMessage, response: ServerResponse): void =>
      this.#take(request, response, (parts, to) => forward(request, response, parts, to));
    this.#http.on('request', onRequest);
    // The server is asked whether to go on, not this process.
    this.#http.on('checkContinue', onRequest);
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Takes connections at a unix socket. */
  listen(path: string): Server {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      this.#accept(socket).catch(() => socket.destroy());
    });
    server.maxConnections = maxConnections;
    return server.listen(path);
  }

  /** Does what the engine orders. */
  order(order: InterceptorOrder): void {
    if ('serve' in order) {
      const { serve: token, secrets } = order;
      const roots = order.roots ?? undefined;
      const box = this.#boxes.get(token);
      if (box) Object.assign(box, { secrets, roots });
      else this.#boxes.set(token, { secrets, roots, sockets: new Set(), told: { since: 0, count: 0 } });
      return;
    }
    for (const socket of this.#boxes.get(order.forget)?.sockets ?? []) socket.destroy();
    this.#boxes.delete(order.forget);
  }

  async #accept(socket: Socket): Promise<void> {
    const said = await firstLine(socket);
    const box = this.#boxes.get(said.token);
    if (!box || box.sockets.size >= maxOfBox) {
      socket.destroy();
      return;
    }
    box.sockets.add(socket);
    const agent = newAgent(said.tls);
    socket.once('close', () => {
      box.sockets.delete(socket);
      agent.destroy();
    });
    const refused = (): void => this.#refused({ box, said }, 'certificate');
    const to: Destination = { ...said, roots: box.roots, agent, refused };
    const client = said.tls ? await this.#secured(socket, said.name) : socket;
    this.#connections.set(client, { box, said, to });
    this.#http.emit('connection', client);
  }

  async #secured(socket: Socket, name: string): Promise<TLSSocket> {
    const secureContext = await this.#leaves.contextFor(name);
    const secured = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] });
    secured.on('error', () => socket.destroy());
    return secured;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(request.socket);
    response.once('finish', () => socket.end());
    this.#take(request, response, (parts, to) =>
      forwardUpgrade(request, response, { socket, head }, parts, to),
    );
  }

  #take(
    request: IncomingMessage,
    response: ServerResponse,
    send: (parts: RequestParts, to: Destination) => void,
  ): void {
    const connection = this.#connections.get(request.socket);
    if (!connection) {
      request.socket.destroy();
      return;
    }
    const { box, said, to } = connection;
    const target = request.url ?? '/';
    if (hostOf(request) !== said.name || !(target.startsWith('/') || target === '*')) {
      this.#refused(connection, 'host');
      refuse(response, 421, `this connection is for ${said.name} only`);
      return;
    }
    let parts: RequestParts;
    try {
      parts = substitute({ target, headers: request.rawHeaders }, box.secrets, said);
    } catch (error) {
      if (!(error instanceof NotForThisServer)) throw error;
      this.#refused(connection, 'secret_host');
      refuse(response, 403, error.message);
      return;
    }
    send(parts, to);
  }

  #refused({ box, said }: Pick<Connection, 'box' | 'said'>, reason: InterceptorRefusal['reason']): void {
    const now = Date.now();
    if (now - box.told.since > 1000) box.told = { since: now, count: 0 };
    box.told.count += 1;
    if (box.told.count > toldASecond) return;
    const { token, name, port } = said;
    this.#tell({ token, reason, name, port });
  }
}

function hostOf({ headers, rawHeaders }: IncomingMessage): string | undefined {
  const count = rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === 'host').length;
  if (count !== 1) return undefined;
  return headers.host?.toLowerCase().replace(/:\d+$/, '').replace(/\.$/, '');
}

/** Reads it, and leaves what follows in the socket. */
async function firstLine(socket: Socket): Promise<HandedOver> {
  const late = setTimeout(() => socket.destroy(), lineTimeoutMs);
  try {
    let bytes = Buffer.alloc(0);
    for (;;) {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) {
        await readable(socket);
        continue;
      }
      bytes = Buffer.concat([bytes, chunk]);
      const end = bytes.indexOf('\n');
      if (end > maxLineBytes || (end < 0 && bytes.length > maxLineBytes))
        throw new Error('the line is too long');
      if (end < 0) continue;
      socket.unshift(bytes.subarray(end + 1));
      return JSON.parse(bytes.toString('utf8', 0, end)) as HandedOver;
    }
  } finally {
    clearTimeout(late);
  }
}

function readable(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (): void => reject(new Error('the connection has ended'));
    const ready = (): void => {
      socket.off('close', over);
      socket.off('end', over);
      resolve();
    };
    socket.once('readable', ready);
    socket.once('close', over);
    socket.once('end', over);
  });
}
