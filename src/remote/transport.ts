import { createConnection } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { Agent, type Dispatcher } from 'undici';
import { WebSocket } from 'ws';
import type { ByteSource, Progress } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { errorFromBody } from '../wire/error.js';
import type { JsonObject } from '../wire/json.js';
import { ndjson, octets } from '../wire/media.js';
import { type Address, addressOf, type RemoteOptions } from './address.js';
import { connectionError, isBrokenConnection, isUnsent } from './errors.js';
import { jsonLines, resultOfLines } from './lines.js';

/** One request. */
export interface Ask {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** Below `/v1`; segments that hold names are percent-encoded by the caller. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly json?: unknown;
  /** A function gives the same bytes again, so that the request can be sent again. */
  readonly upload?: ByteSource | (() => ByteSource);
  readonly uploadType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal;
  /** Makes a POST safe to send again. */
  readonly idempotencyKey?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer whose body is read by the caller. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Readable;
}

/** A WebSocket that is being opened. */
export interface OpeningSocket {
  readonly socket: WebSocket;
  readonly open: Promise<void>;
}

/** Answers of JSON larger than this come from no server of ours: the largest is a list of all boxes. */
const maxJsonBytes = 256 * 1024 * 1024;
/** Of an error's body; the envelope is small. */
const maxErrorBytes = 256 * 1024;
const connectMs = 10_000;
const keepAliveMs = 30_000;
/** Frames of one WebSocket message; the server sends 64 KiB, see `maxOutputFrameBytes`. */
const maxFrameBytes = 16 * 1024 * 1024;
/** How often a request that may be repeated is sent again, and after how long: a server restarts within seconds. */
const retryDelaysMs = [50, 250, 500, 1000, 2000, 4000];

function queryText(query: Ask['query']): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value !== undefined) parameters.set(key, String(value));
  }
  return parameters.size === 0 ? '' : `?${parameters}`;
}

async function textOf(body: Readable, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes)
      throw new CryoboxError('payload_too_large', `The answer is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Whether a request may be sent again although it may have been carried out. */
function isSafe({ method, idempotencyKey }: Ask): boolean {
  return method === 'GET' || idempotencyKey !== undefined;
}

/** Waits, or for the signal if that is raised first. */
async function delay(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await setTimeout(ms, undefined, { signal, ref: true }).catch(() => undefined);
}

/** A percent-encoded path segment. */
export function segment(name: string): string {
  const encoded = encodeURIComponent(name);
  // `.` and `..` would be taken out of the path on the way.
  return encoded === '.' || encoded === '..' ? encoded.replaceAll('.', '%2E') : encoded;
}

/** What a transport can do beside sending. */
export interface TransportHooks {
  /** Sees to it that somebody answers at the address again; throws why that cannot be. */
  readonly revive?: () => Promise<void>;
}

/** Sends requests to one server, over TCP or a unix socket, and gives typed errors. */
export class Transport {
  readonly #address: Address;
  readonly #hooks: TransportHooks;
  /** Whether the server has ever answered: if not, the address may be wrong, and waiting would only hide that. */
  #reached = false;
  readonly #agent: Agent;
  /** Upgraded connections, which end with the transport. */
  readonly #sockets = new Set<WebSocket>();

  constructor(options: RemoteOptions, hooks: TransportHooks = {}) {
    this.#address = addressOf(options);
    this.#hooks = hooks;
    this.#agent = new Agent({
      connect: {
        timeout: connectMs,
        ...(this.#address.socketPath ? { socketPath: this.#address.socketPath } : {}),
      },
      keepAliveTimeout: keepAliveMs,
      // Creates, pulls and exports take as long as they take; a broken connection or the caller's signal ends them.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /** The server's name in errors. */
  get name(): string {
    return this.#address.name;
  }

  /** Sees to it that somebody answers, where that is in our hands. */
  async revive(): Promise<void> {
    await this.#hooks.revive?.();
  }

  /** Sends a request whose answer is JSON. */
  async json(ask: Ask): Promise<unknown> {
    const text = await this.#repeating(ask, async () =>
      this.#read((await this.#once(ask)).body, maxJsonBytes, ask.signal),
    );
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      throw new CryoboxError('upstream_unavailable', `${this.name} answered with something that is no JSON`, {
        cause: error,
      });
    }
  }

  /** Sends a request whose answer has no body. Returns its headers. */
  async empty(ask: Ask): Promise<Readonly<Record<string, unknown>>> {
    return await this.#repeating(ask, async () => {
      const reply = await this.#once(ask);
      await this.#read(reply.body, maxJsonBytes, ask.signal);
      return reply.headers;
    });
  }

  /** Sends a request whose answer is a stream of bytes. */
  async bytes(ask: Ask): Promise<ByteSource> {
    return this.#typed((await this.send(ask)).body, ask.signal);
  }

  /** Sends a request whose answer is lines of JSON. */
  async *lines(ask: Ask): AsyncGenerator<JsonObject> {
    yield* jsonLines(await this.bytes({ ...ask, accept: ndjson }));
  }

  /** Sends a request whose answer is lines of JSON, those of its progress before that of its result. */
  async result(ask: Ask, onProgress: (progress: Progress) => void): Promise<unknown> {
    return await this.#repeating(ask, async () => {
      const { body } = await this.#once({ ...ask, accept: ndjson });
      return await resultOfLines(jsonLines(this.#typed(body, ask.signal)), onProgress);
    });
  }

  /** Runs what opens a WebSocket, again when nobody was there to open it. */
  async reaching<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await this.#repeating({ method: 'POST', path: '', signal }, task);
  }

  /** Sends a request. Anything but 2xx is the error it stands for. */
  async send(ask: Ask): Promise<Reply> {
    return await this.#repeating(ask, () => this.#once(ask));
  }

  /**
   * Runs `task`, which sends a request, again when the request was certainly not begun, or changes nothing, or has a key
   * that makes it safe. A body that can be read once only is not sent again.
   */
  async #repeating<T>(ask: Ask, task: () => Promise<T>): Promise<T> {
    const once = ask.upload !== undefined && typeof ask.upload !== 'function';
    if (once) await this.revive();
    for (let attempt = 0; ; attempt += 1) {
      try {
        const result = await task();
        this.#reached = true;
        return result;
      } catch (error) {
        const failure = connectionError(error, this.name, ask.signal);
        const delayMs = retryDelaysMs[attempt];
        if (once || delayMs === undefined || ask.signal?.aborted) throw failure;
        if (isUnsent(error) ? !this.#isRestarting() : !isBrokenConnection(error) || !isSafe(ask))
          throw failure;
        await delay(delayMs, ask.signal);
        await this.revive();
      }
    }
  }

  /** Whether a server that is not there is one that comes back. */
  #isRestarting(): boolean {
    return this.#reached || this.#hooks.revive !== undefined;
  }

  async #once(ask: Ask): Promise<Reply> {
    const headers: Record<string, string> = { ...this.#address.headers, ...ask.headers };
    if (ask.accept) headers['accept'] = ask.accept;
    if (ask.json !== undefined) headers['content-type'] = 'application/json';
    if (ask.upload) headers['content-type'] = ask.uploadType ?? octets;
    if (ask.idempotencyKey) headers['idempotency-key'] = ask.idempotencyKey;
    const source = typeof ask.upload === 'function' ? ask.upload() : ask.upload;
    const upload = source ? Readable.from(source, { objectMode: false }) : undefined;
    const options: Dispatcher.RequestOptions = {
      origin: this.#address.origin,
      path: this.#pathOf(ask.path) + queryText(ask.query),
      method: ask.method,
      headers,
      body: upload ?? (ask.json === undefined ? null : JSON.stringify(ask.json)),
      signal: ask.signal ?? null,
    };
    let failure: unknown;
    upload?.on('error', (error) => {
      failure = error;
    });
    const answer = await this.#agent
      .request(options)
      .catch((error: unknown) => Promise.reject(failure ?? error));
    if (answer.statusCode >= 200 && answer.statusCode < 300) {
      return { status: answer.statusCode, headers: answer.headers, body: answer.body };
    }
    upload?.destroy();
    throw errorFromBody(await textOf(answer.body, maxErrorBytes), answer.statusCode);
  }

  /**
   * Begins to open a WebSocket. Listeners are to be added before `open` is awaited, or messages that come with the
   * answer are lost. `open` rejects with what the server refuses with.
   */
  socket(path: string, query: Ask['query'], signal?: AbortSignal): OpeningSocket {
    const { origin, socketPath, headers } = this.#address;
    const url = origin.replace(/^http/, 'ws') + this.#pathOf(path) + queryText(query);
    const socket = new WebSocket(url, {
      headers: { ...headers },
      perMessageDeflate: false,
      maxPayload: maxFrameBytes,
      handshakeTimeout: connectMs,
      ...(socketPath ? { createConnection: () => createConnection({ path: socketPath }) } : {}),
    });
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    const open = new Promise<void>((resolve, reject) => {
      const abort = (): void => socket.terminate();
      signal?.addEventListener('abort', abort, { once: true });
      const done = (): void => signal?.removeEventListener('abort', abort);
      socket.on('error', (error) => {
        done();
        reject(connectionError(error, this.name, signal));
      });
      socket.once('open', () => {
        done();
        resolve();
      });
      socket.once('unexpected-response', (request, response) => {
        done();
        textOf(response, maxErrorBytes)
          .then((body) => reject(errorFromBody(body, response.statusCode ?? 500)))
          .catch((error: unknown) => reject(connectionError(error, this.name, signal)))
          .finally(() => {
            request.destroy();
            socket.emit('close', 1006, Buffer.alloc(0));
          });
      });
      if (signal?.aborted) abort();
    });
    open.catch(() => undefined);
    return { socket, open };
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.terminate();
    await this.#agent.destroy();
    this.#address.release();
  }

  #pathOf(path: string): string {
    return `${this.#address.basePath}/v1${this.#address.prefix}${path}`;
  }

  async #read(body: Readable, maxBytes: number, signal: AbortSignal | undefined): Promise<string> {
    try {
      return await textOf(body, maxBytes);
    } catch (error) {
      throw connectionError(error, this.name, signal);
    }
  }

  async *#typed(body: Readable, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of body as AsyncIterable<Uint8Array>) yield chunk;
    } catch (error) {
      throw connectionError(error, this.name, signal);
    }
  }
}
