import { once } from 'node:events';
import {
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { connect as connectTls } from 'node:tls';
import { carry, reset } from '../../../base/carry.js';
import { PortStream } from '../../../base/port-stream.js';
import { CryoboxError } from '../../../errors.js';
import { defaultLimits } from '../limits.js';
import { limitUnreadBody } from '../unread-body.js';
import { withoutToken } from './access.js';
import type { PortTarget } from './dialect.js';
import { answeredHeaders, forwardedHeaders, switchingHead } from './headers.js';

/** A request that was let in. */
interface Forwarded {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Bytes that came after the head of an upgrade. */
  readonly head?: Buffer;
  readonly target: PortTarget;
  /** Ends it: the client has gone, or the box goes. */
  readonly signal: AbortSignal;
}

/** Path and query of a request line, which may name the host too (RFC 9112, section 3.2.2). */
function pathOf(url: string): string {
  if (url.startsWith('/') || url === '*') return url;
  const { pathname, search } = new URL(url);
  return pathname + search;
}

async function connected({ target, signal }: Forwarded): Promise<Duplex> {
  const plain = await target.connect(signal);
  if (plain instanceof PortStream) plain.dropUntaken();
  // Whoever uses it hears of an error by what it reads.
  plain.on('error', () => undefined);
  if (!target.tls) return plain;
  const secure = connectTls({ socket: plain, rejectUnauthorized: false });
  secure.on('error', () => undefined);
  return secure;
}

function ask(port: Duplex, { request, target }: Forwarded): ClientRequest {
  const left = withoutToken({ url: pathOf(request.url ?? '/'), headers: request.rawHeaders }, target.access);
  return httpRequest({
    createConnection: () => port,
    method: request.method,
    path: left.url,
    // A list keeps the spelling of every name; that a list may be flat is missing in the type.
    headers: forwardedHeaders(request, left.headers, target.host) as never,
    setHost: false,
  });
}

/** The answer of the box: a message, or the connection from the end of an upgrade on. */
async function answerTo(
  asked: ClientRequest,
  signal: AbortSignal,
): Promise<{ readonly answer: IncomingMessage; readonly switched?: { port: Duplex; head: Buffer } }> {
  const switched = once(asked, 'upgrade', { signal }).then(([answer, port, head]) => ({
    answer: answer as IncomingMessage,
    switched: { port: port as Duplex, head: head as Buffer },
  }));
  const plain = once(asked, 'response', { signal }).then(([answer]) => ({
    answer: answer as IncomingMessage,
  }));
  // Only one of them comes; an error comes to both.
  switched.catch(() => undefined);
  plain.catch(() => undefined);
  return await Promise.race([switched, plain]);
}

/** Gives the box the body of a request as fast as it takes it; what it does not want is dropped. */
function sendBody(request: IncomingMessage, asked: ClientRequest): void {
  request.pipe(asked);
  request.once('error', () => asked.destroy());
  asked.once('close', () => {
    request.unpipe(asked);
    request.resume();
    limitUnreadBody(request, defaultLimits.unreadBodyMs);
  });
}

/**
 * Passes a request on to a port of a box, and its answer back. Resolves when all of it is done; once the head of the answer
 * was sent, what goes wrong resets the client's connection. Throws before that.
 */
export async function forward(forwarded: Forwarded): Promise<void> {
  const { request, response, head, signal } = forwarded;
  const port = await connected(forwarded);
  const stop = (): void => {
    port.destroy(new CryoboxError('stopped', 'The connection was cut off'));
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    if (signal.aborted) stop();
    const asked = ask(port, forwarded);
    asked.on('error', () => undefined);
    const coming = answerTo(asked, signal);
    if (head) asked.end();
    else sendBody(request, asked);
    const { answer, switched } = await coming;
    if (!switched) return await giveAnswer(answer, response, port);
    await takeOver(request, response, answer, switched, head);
  } finally {
    signal.removeEventListener('abort', stop);
    port.destroy();
  }
}

async function giveAnswer(answer: IncomingMessage, response: ServerResponse, port: Duplex): Promise<void> {
  const { socket } = response;
  const breakOff = (error: Error): void => {
    if (socket) reset(socket);
    answer.destroy(error);
  };
  // Before anybody else hears of it: an answer that ends with its connection would look whole.
  port.prependOnceListener('error', breakOff);
  answer.once('error', breakOff);
  response.sendDate = false;
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', answeredHeaders(answer));
  // The first piece of a stream of events may be long in coming.
  response.flushHeaders();
  answer.once('end', () => {
    if (answer.rawTrailers.length > 0) response.addTrailers(pairsOf(answer.rawTrailers));
  });
  await pipeline(answer, response).catch(() => undefined);
}

function pairsOf(raw: readonly string[]): [string, string][] {
  return raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1] ?? ''] as [string, string]] : []));
}

async function takeOver(
  { socket }: IncomingMessage,
  response: ServerResponse,
  answer: IncomingMessage,
  { port, head: first }: { readonly port: Duplex; readonly head: Buffer },
  head: Buffer | undefined,
): Promise<void> {
  response.statusCode = answer.statusCode ?? 101;
  response.detachSocket(socket);
  try {
    socket.write(switchingHead(answer), 'latin1');
    if (first.length > 0) socket.write(first);
    // A connection that breaks off is how such a one often ends.
    await carry(socket, port, head).catch(() => undefined);
  } finally {
    response.emit('close');
  }
}
