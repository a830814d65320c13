import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { type Duplex, pipeline } from 'node:stream';
import { errnoOf, messageOf } from '../errors.js';
import type { RequestParts } from './substitute.js';

/** The server that a connection of a box is to. */
export interface Destination {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Whether it is spoken to by TLS. */
  readonly tls: boolean;
  /** Roots that its certificate is checked against; undefined: those that came with Node. */
  readonly roots: readonly string[] | undefined;
  /** Its connections: those of one connection of a box, since servers may know who speaks by the connection. */
  readonly agent: HttpAgent;
  /** Tells that its certificate is refused. */
  refused(): void;
}

/** What a server says of other ways to it leads around the interceptor. */
const leftOut = ['alt-svc'];
/** Failures of a certificate, by the beginnings of their codes (tls, "X509 certificate error codes"). */
const certificateErrors =
  /^(ERR_TLS_CERT|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|INVALID_(CA|PURPOSE)|HOSTNAME_MISMATCH|ERROR_IN_CERT)/;

/** What a connection says that its server has ended. */
const endedCodes = ['ECONNRESET', 'EPIPE'];

/** Connections to a server, for one connection of a box. */
export function newAgent(tls: boolean): HttpAgent {
  return new (tls ? HttpsAgent : HttpAgent)({ keepAlive: true, maxSockets: 1 });
}

/** Sends a request on, and its answer back. Bodies are streamed, as fast as the slower side takes them. */
export function forward(
  request: IncomingMessage,
  response: ServerResponse,
  parts: RequestParts,
  to: Destination,
): void {
  const upstream = start(request, parts, to, to.agent);
  upstream.on('continue', () => response.writeContinue());
  upstream.on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, headersOf(answer));
    pipeline(answer, response, () => undefined);
  });
  upstream.on('error', (error) => fail(response, error, to, upstream.reusedSocket));
  // Whoever has gone away needs no answer.
  response.on('close', () => upstream.destroy());
  pipeline(request, upstream, () => undefined);
}

/** Sends on a request for another protocol, such as WebSocket; what follows is passed on as it is. */
export function forwardUpgrade(
  request: IncomingMessage,
  response: ServerResponse,
  { socket, head }: { readonly socket: Duplex; readonly head: Buffer },
  parts: RequestParts,
  to: Destination,
): void {
  const upstream = start(request, parts, to, false);
  upstream.on('upgrade', (answer, server, first) => {
    response.detachSocket(request.socket);
    const lines = headersOf(answer).map((text, index) => (index % 2 === 0 ? `${text}: ` : `${text}\r\n`));
    socket.write(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${lines.join('')}\r\n`, 'latin1');
    socket.write(first);
    server.write(head);
    pipeline(socket, server, socket, () => undefined);
  });
  upstream.on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, headersOf(answer));
    pipeline(answer, response, () => socket.end());
  });
  upstream.on('error', (error) => fail(response, error, to));
  socket.on('close', () => upstream.destroy());
  upstream.end();
}

function start(
  request: IncomingMessage,
  { target, headers }: RequestParts,
  { name, address, port, tls, roots }: Destination,
  agent: HttpAgent | false,
): ClientRequest {
  const secured = { servername: name, ...(roots ? { ca: [...roots] } : {}), rejectUnauthorized: true };
  return (tls ? httpsRequest : httpRequest)({
    host: address,
    port,
    method: request.method,
    path: target,
    // A list keeps names, their case and their order as the client wrote them.
    headers: [...headers] as unknown as Record<string, string>,
    agent,
    maxHeaderSize: 64 * 1024,
    ...(tls ? secured : {}),
  });
}

function headersOf({ rawHeaders }: IncomingMessage): string[] {
  return rawHeaders.filter((_, index) => {
    const name = rawHeaders[index - (index % 2)] ?? '';
    return !leftOut.includes(name.toLowerCase());
  });
}

function fail(response: ServerResponse, error: Error, to: Destination, isReused = false): void {
  const isRefused = certificateErrors.test(errnoOf(error) ?? '');
  if (isRefused) to.refused();
  // A server may end a connection that has served before at any time: a client that sees that asks again.
  if (response.headersSent || (isReused && endedCodes.includes(errnoOf(error) ?? ''))) {
    response.destroy();
    return;
  }
  const what = isRefused ? `the certificate of ${to.name} is not valid: ` : `${to.name}: `;
  refuse(response, 502, what + messageOf(error));
}

/** Answers a request that is not sent on; what it still sends is not read. */
export function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, STATUS_CODES[status], {
    'content-type': 'text/plain; charset=utf-8',
    connection: 'close',
  });
  response.end(`cryobox: ${text}\n`);
}
