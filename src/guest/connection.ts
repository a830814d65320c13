import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { z } from 'zod';
import { readInTurns } from '../base/read-in-turns.js';
import { connectUnix } from '../base/socket.js';
import { CryoboxError, type ErrorCode, isCryoboxError, isErrorCode, messageOf } from '../errors.js';
import { agentHello, brokenAgent, checkedAnswer } from './answers.js';
import { encodeFrame, type Frame, FrameDecoder, magic, maxPayloadBytes, nonceBytes } from './frames.js';
import { GuestReadable, GuestWritable } from './streams.js';

/** Version of the protocol spoken here; the agent refuses others. */
const protocolVersion = 1;
/** Requests under way on one connection: beyond it the caller has lost count. */
const maxPendingRequests = 4096;
const defaultRequestTimeoutMs = 30_000;
const defaultConnectTimeoutMs = 15_000;
/** Characters of an agent's error that are told: a path of 4,096 bytes, escaped, and a sentence fit. */
const maxErrorText = 32 * 1024;
/** First wait for the answer to a preamble; doubled with every try. An agent that is there answers in milliseconds. */
const preambleRetryMs = 500;
/**
 * Sent before a repeated preamble: more than a frame can hold, of a byte no frame starts with. An agent that took the
 * first preamble for the rest of a frame of an earlier connection comes out of that frame and starts to look for one.
 */
const fillerBytes = 2 * maxPayloadBytes + 4096;

/** What the agent answers to hello. */
export type AgentHello = Readonly<z.infer<typeof agentHello>>;

/** How to reach an agent. */
export interface ConnectOptions {
  /** Unix socket of the machine's agent port; any length. */
  readonly socketPath: string;
  /** Gives up. */
  readonly signal?: AbortSignal;
  /** For connection and handshake; default 15,000. */
  readonly timeoutMs?: number;
}

/** Limits of one request. */
export interface RequestOptions {
  readonly signal?: AbortSignal;
  /** Default 30,000; 0 waits for as long as the connection lives. */
  readonly timeoutMs?: number;
  /** Bytes that go with the request. */
  readonly payload?: Uint8Array;
}

/** An answer's `ok` object. */
export type Answer = Readonly<Record<string, unknown>>;

interface Pending {
  resolve(answer: Answer): void;
  reject(error: CryoboxError): void;
}

/** One connection to one agent: requests and their answers, events, streams. */
export class AgentConnection {
  readonly #socket: Socket;
  readonly #decoder = new FrameDecoder();
  readonly #pending = new Map<number, Pending>();
  readonly #readables = new Map<number, GuestReadable>();
  readonly #writables = new Map<number, GuestWritable>();
  readonly #listeners = new Set<(event: Answer) => void>();
  readonly #closed: Promise<CryoboxError>;
  #onClosed: (error: CryoboxError) => void = () => undefined;
  #onSynchronised: () => void = () => undefined;
  #failure: CryoboxError | undefined;
  #expected: CryoboxError | undefined;
  #lastId = 0;
  #lastStream = 0;
  #corked = false;
  #drained: Promise<void> | undefined;
  #hello: AgentHello | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    const received = readInTurns(socket, {
      take: (bytes) => this.#take(bytes),
      step: () => this.#step(),
    });
    socket.on('error', (cause) => this.#fail(gone(messageOf(cause), cause)));
    socket.on('close', () => received.afterwards(() => this.#fail(gone('the machine closed it'))));
  }

  /**
   * Connects, finds the frame boundary and shakes hands.
   * @throws CryoboxError `machine_failed` when nothing listens or it goes away, `timeout`, `cancelled`,
   * `agent_mismatch` when the agent speaks another protocol.
   */
  static async open(options: ConnectOptions): Promise<AgentConnection> {
    const timeoutMs = options.timeoutMs ?? defaultConnectTimeoutMs;
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
    const connection = new AgentConnection(await connectSocket(options.socketPath, signal));
    try {
      await connection.#synchronise(signal);
      const hello = await connection.request(
        'hello',
        { protocol: protocolVersion },
        { signal, timeoutMs: 0 },
      );
      connection.#hello = checkedAnswer(agentHello, hello, 'hello');
      return connection;
    } catch (error) {
      connection.close();
      if (!deadline.aborted || options.signal?.aborted) throw error;
      throw new CryoboxError('timeout', `the agent did not answer within ${timeoutMs} ms`, { cause: error });
    }
  }

  /** What the agent said about itself. */
  get hello(): AgentHello {
    if (this.#hello === undefined) throw new CryoboxError('internal', 'the handshake is not done');
    return this.#hello;
  }

  /** Whether the connection has ended: true before anybody who waited for an answer is told. */
  get hasEnded(): boolean {
    return this.#failure !== undefined;
  }

  /** Resolves, with the reason, when the connection has ended. Never rejects. */
  get closed(): Promise<CryoboxError> {
    return this.#closed;
  }

  /**
   * Sends a request. Requests made without an await between them leave in one write, and are taken up in order.
   * @throws CryoboxError what the agent reports, `timeout`, `cancelled`, or `machine_failed` at once when the
   * connection ends.
   */
  request(op: string, args: Record<string, unknown>, options: RequestOptions = {}): Promise<Answer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (options.signal?.aborted) return Promise.reject(cancelled(op));
    if (this.#pending.size >= maxPendingRequests) {
      return Promise.reject(
        new CryoboxError(
          'resource_exhausted',
          `${op}: ${maxPendingRequests} requests wait for the agent already`,
        ),
      );
    }
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise<Answer>((resolve, reject) => {
      const done = this.#watch(id, op, options, reject);
      this.#pending.set(id, {
        resolve: (answer) => {
          done();
          resolve(answer);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      });
      try {
        this.#post({ ...args, id, op }, options.payload);
      } catch (error) {
        this.#pending.get(id)?.reject(isCryoboxError(error) ? error : gone(messageOf(error), error));
        this.#pending.delete(id);
      }
    });
  }

  /** Calls back for every event of the agent; the result ends that. */
  onEvent(listener: (event: Answer) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * A stream from the guest, with an id to be named in a request made before anything is awaited.
   * @param floating it may start at any offset, as one that is attached to.
   */
  newReadable(floating = false): GuestReadable {
    const stream = new GuestReadable(this.#wire, this.#nextStream(), floating);
    this.#readables.set(stream.id, stream);
    if (this.#failure !== undefined) stream.fail(this.#failure);
    return stream;
  }

  /** A stream to the guest, as {@link newReadable}. */
  newWritable(): GuestWritable {
    const stream = new GuestWritable(this.#wire, this.#nextStream());
    this.#writables.set(stream.id, stream);
    if (this.#failure !== undefined) stream.fail(this.#failure);
    return stream;
  }

  /**
   * Waits until the agent has taken up everything sent so far, and keeps back what is sent from then on until the
   * returned function is called. @throws as {@link request}.
   */
  async hold(options: RequestOptions = {}): Promise<() => void> {
    const answered = this.request('sys.ping', { echo: '' }, options);
    answered.catch(() => undefined);
    // The ping leaves at the end of this turn's microtasks; the next turn is behind it.
    await new Promise((resolve) => setImmediate(resolve));
    this.#socket.cork();
    const release = () => this.#socket.uncork();
    try {
      await answered;
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** What everybody who waits is told when the connection ends, by whichever side; undefined: what ended it. */
  endsWith(reason: CryoboxError | undefined): void {
    this.#expected = reason;
  }

  /** Ends the connection. Executions in the guest go on. */
  close(): void {
    this.#fail(new CryoboxError('cancelled', 'the connection to the agent was closed'));
  }

  readonly #wire = {
    send: (header: Record<string, unknown>, payload?: Uint8Array) => this.#send(header, payload),
    post: (header: Record<string, unknown>) => this.#post(header),
    release: (stream: number) => {
      this.#readables.delete(stream);
      this.#writables.delete(stream);
    },
  };

  #nextStream(): number {
    this.#lastStream += 1;
    return this.#lastStream;
  }

  /** Time limit and cancellation of a request; the result takes them off. */
  #watch(id: number, op: string, options: RequestOptions, reject: (error: CryoboxError) => void): () => void {
    const timeoutMs = options.timeoutMs ?? defaultRequestTimeoutMs;
    const abandon = (error: CryoboxError) => {
      this.#pending.delete(id);
      done();
      reject(error);
      this.#cancel(id);
    };
    const onAbort = () => abandon(cancelled(op));
    const timer =
      timeoutMs === 0
        ? undefined
        : setTimeout(
            () =>
              abandon(new CryoboxError('timeout', `${op}: the agent did not answer within ${timeoutMs} ms`)),
            timeoutMs,
          );
    const done = () => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
    };
    options.signal?.addEventListener('abort', onAbort, { once: true });
    return done;
  }

  /** Nobody waits for the answer any more: what the agent does for it ends. Its answer to this is of no interest. */
  #cancel(request: number): void {
    this.#lastId += 1;
    // A connection that has ended says so to whoever waits; here nobody does.
    this.#send({ id: this.#lastId, op: 'cancel', request })?.catch(() => undefined);
  }

  /** Everything sent before the next turn of the event loop's microtasks ends leaves in one write. */
  #send(header: Record<string, unknown>, payload?: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) return undefined;
    const parts = encodeFrame(header, payload);
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      queueMicrotask(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    let room = true;
    for (const part of parts) room = this.#socket.write(part);
    return room ? undefined : this.#untilDrained();
  }

  /** Sends without waiting for room. */
  #post(header: Record<string, unknown>, payload?: Uint8Array): void {
    this.#send(header, payload)?.catch(() => undefined);
  }

  #untilDrained(): Promise<void> {
    this.#drained ??= new Promise((resolve) => {
      const done = () => {
        this.#drained = undefined;
        resolve();
      };
      this.#socket.once('drain', done);
      this.#closed.then(done, done);
    });
    return this.#drained;
  }

  /** Sends preambles until the agent has answered the last one; what comes before that is of an earlier time. */
  async #synchronise(signal: AbortSignal): Promise<void> {
    const found = new Promise<void>((resolve) => {
      this.#onSynchronised = resolve;
    });
    let waitMs = preambleRetryMs;
    for (let round = 0; ; round += 1) {
      const nonce = randomBytes(nonceBytes);
      this.#decoder.awaitPreamble(nonce);
      if (round > 0) this.#socket.write(Buffer.alloc(fillerBytes, 0xff));
      this.#socket.write(Buffer.concat([magic, nonce]));
      await this.#waitFor(found, waitMs, signal);
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#decoder.synchronised) return;
      if (signal.aborted) throw cancelled('connecting to the agent');
      waitMs *= 2;
    }
  }

  async #waitFor(found: Promise<void>, waitMs: number, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    let onAbort: () => void = () => undefined;
    const stopped = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, waitMs);
      onAbort = resolve;
      signal.addEventListener('abort', onAbort, { once: true });
    });
    if (signal.aborted) onAbort();
    await Promise.race([found, stopped, this.#closed]);
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }

  #take(bytes: Buffer): void {
    if (this.#failure !== undefined) return;
    this.#decoder.take(bytes);
    if (this.#decoder.synchronised) this.#onSynchronised();
  }

  /** Handles the next frame; false when there is none. */
  #step(): boolean {
    if (this.#failure !== undefined) return false;
    try {
      const frame = this.#decoder.next();
      if (frame === undefined) return false;
      this.#frame(frame);
      return true;
    } catch (error) {
      this.#fail(isCryoboxError(error) ? error : gone(messageOf(error), error));
      return false;
    }
  }

  #frame(frame: Frame): void {
    const { header } = frame;
    if (typeof header.s === 'number') {
      this.#streamFrame(header.s, frame);
    } else if (typeof header.re === 'number') {
      this.#answer(header.re, header);
    } else if (header.ev === 'broken') {
      throw brokenAgent(`it did not understand the engine: ${textOf(header.message)}`);
    } else {
      for (const listener of [...this.#listeners]) listener(header);
    }
  }

  #answer(id: number, header: Answer): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (typeof header.ok === 'object' && header.ok !== null) pending?.resolve(header.ok as Answer);
    else pending?.reject(remoteError(header.error));
  }

  #streamFrame(id: number, { header, payload }: Frame): void {
    const readable = this.#readables.get(id);
    const writable = this.#writables.get(id);
    if (header.reset !== undefined) {
      const error = remoteError(header.reset);
      readable?.fail(error);
      writable?.fail(error);
    } else if (header.credit !== undefined) {
      writable?.grant(header.credit);
    } else if (readable !== undefined) {
      if (!readable.accept(header.at, payload)) {
        throw brokenAgent(`data of stream ${id} out of turn`);
      }
      if (header.end === true) readable.finish();
    }
  }

  /** Everything that waits for the agent learns at once that there is none. */
  #fail(cause: CryoboxError): void {
    if (this.#failure !== undefined) return;
    const error = this.#expected ?? cause;
    this.#failure = error;
    this.#socket.destroy();
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    for (const stream of [...this.#readables.values(), ...this.#writables.values()]) stream.fail(error);
    this.#onClosed(error);
  }
}

function gone(why: string, cause?: unknown): CryoboxError {
  return new CryoboxError('machine_failed', `the connection to the agent is gone: ${why}`, { cause });
}

function cancelled(what: string): CryoboxError {
  return new CryoboxError('cancelled', `${what}: cancelled`);
}

/** What an agent reports. Whoever is root in a guest can speak in its place. */
const agentCodes: ReadonlySet<string> = new Set<ErrorCode>([
  'agent_mismatch',
  'already_exists',
  'archive_invalid',
  'cancelled',
  'command_not_executable',
  'command_not_found',
  'conflict',
  'cwd_not_found',
  'disk_full',
  'execution_failed',
  'invalid_argument',
  'invalid_state',
  'machine_failed',
  'network_unavailable',
  'not_found',
  'payload_too_large',
  'permission_denied',
  'resource_exhausted',
  'stopped',
  'storage_error',
  'timeout',
  'unsupported',
  'user_not_found',
]);

/** A text of the agent as it may stand in an error: with a path, and not much more. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, maxErrorText) : 'without a word';
}

function remoteError(value: unknown): CryoboxError {
  const { code, message, hint } = (typeof value === 'object' && value !== null ? value : {}) as Answer;
  const text =
    typeof message === 'string' ? textOf(message) : 'the agent reported an error without a message';
  // It cannot speak for others: not for the server, the home or the caller.
  const known =
    typeof code === 'string' && isErrorCode(code) && agentCodes.has(code) ? code : 'agent_mismatch';
  return new CryoboxError(known, text, typeof hint === 'string' ? { hint: textOf(hint) } : {});
}

async function connectSocket(path: string, signal: AbortSignal): Promise<Socket> {
  try {
    return await connectUnix(path, signal);
  } catch (cause) {
    throw signal.aborted ? cancelled(`connecting to ${path}`) : gone(`${path}: ${messageOf(cause)}`, cause);
  }
}
