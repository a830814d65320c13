import type { Socket } from 'node:net';
import { z } from 'zod';
import { faultPoint } from '../base/faults.js';
import { parseJson } from '../base/json.js';
import { readInTurns } from '../base/read-in-turns.js';
import { connectUnix } from '../base/socket.js';
import { CryoboxError, messageOf } from '../errors.js';

/** An event QEMU sent (QMP specification, section 2.5 "Asynchronous events"). */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What is waited for. */
export interface QmpWait {
  /** Named in errors. */
  readonly what: string;
  readonly accept: (event: QmpEvent) => boolean;
  /** @default 20000 */
  readonly timeoutMs?: number;
}

/**
 * Longest line accepted, so that a QEMU that was taken over cannot fill memory or keep everybody waiting: reading one
 * takes milliseconds. The longest of a sound one describe long chains of disks and have some hundred KiB.
 */
const maxLineBytes = 2 * 1024 * 1024;
const lineBounds = { maxValues: 65_536, maxDepth: 256 };
/** Pieces of a line that are kept apart before they are joined. */
const maxPieces = 1024;
/** Characters of QEMU's words that an error tells. */
const maxErrorText = 4096;
/** Items of a list; machines have a dozen disks, each a chain of layers. */
const maxItems = 4096;
/** Commands answer within milliseconds; a QEMU that takes this long hangs. */
const defaultTimeoutMs = 20_000;

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** What QEMU sends (QMP specification, section 2), as far as it is looked at. */
const qmpMessage = z.object({
  QMP: z.unknown().optional(),
  event: z.string().max(256).optional(),
  data: z.record(z.string(), z.unknown()).optional(),
  id: z.unknown().optional(),
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
});

/** A QMP session with one QEMU (QEMU Machine Protocol Specification). */
export class QmpClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  /** Called once, when the session ends. */
  readonly #closers = new Set<(error: CryoboxError) => void>();
  readonly #greeted: Promise<void>;
  #greet: () => void = () => undefined;
  #failGreeting: (error: Error) => void = () => undefined;
  /** Pieces of a line whose end has not come. */
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  /** What has come and was not looked at. */
  #rest: Buffer = Buffer.alloc(0);
  #nextId = 1;
  #closedBy: CryoboxError | undefined;
  /** Resolves when the session has ended, for whatever reason. */
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#greeted = new Promise((resolve, reject) => {
      this.#greet = resolve;
      this.#failGreeting = reject;
    });
    this.#greeted.catch(() => undefined);
    const received = readInTurns(socket, {
      take: (chunk) => {
        this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      },
      step: () => this.#step(),
    });
    this.closed = new Promise((resolve) => {
      socket.once('close', () =>
        received.afterwards(() => {
          this.#end(new CryoboxError('machine_failed', 'QEMU closed its control socket'));
          resolve();
        }),
      );
    });
    socket.on('error', (error) => this.#end(failure(`QEMU's control socket failed: ${messageOf(error)}`)));
  }

  /** Connects, waits for the greeting and leaves capability negotiation. Throws `machine_failed`. */
  static async connect(socketPath: string, timeoutMs = defaultTimeoutMs): Promise<QmpClient> {
    let socket: Socket;
    try {
      socket = await connectUnix(socketPath);
    } catch (error) {
      throw failure(`cannot reach QEMU's control socket: ${messageOf(error)}`, error);
    }
    return await QmpClient.attach(socket, timeoutMs);
  }

  /** Starts a session on a socket that is connected to QEMU's monitor already. Throws `machine_failed`. */
  static async attach(socket: Socket, timeoutMs = defaultTimeoutMs): Promise<QmpClient> {
    const client = new QmpClient(socket);
    const timer = setTimeout(
      () => client.#end(failure(`QEMU sent no greeting within ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      await client.#greeted;
      await client.execute('qmp_capabilities', {}, { timeoutMs });
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs a command and returns what it returns. Throws `machine_failed` with QEMU's words, or when the session ends;
   * `timeout` when there is no answer in time (default 20 s).
   */
  execute(command: string, args: object = {}, options: { timeoutMs?: number } = {}): Promise<unknown> {
    if (this.#closedBy) return Promise.reject(this.#closedBy);
    const id = this.#nextId++;
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new CryoboxError('timeout', `QEMU did not answer ${command} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#pending.set(id, { command, resolve, reject, timer });
      faultPoint('qmp:before');
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** Asks a question. Throws as {@link execute}, and `machine_failed` for an answer of another shape than `answer`. */
  async query<T>(command: string, answer: z.ZodType<T>, args: object = {}): Promise<T> {
    return checked(command, answer, await this.execute(command, args));
  }

  /** Asks for a list of `item`, as {@link query}. */
  async queryList<T>(command: string, item: z.ZodType<T>, args: object = {}): Promise<T[]> {
    const list = await this.query(command, z.array(z.unknown()).max(maxItems), args);
    // One by one: the first wrong one ends it, and thousands of wrong ones would take long.
    return list.map((each) => checked(command, item, each));
  }

  /** Calls `listener` for each event until the returned function is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether the session goes on. */
  get isOpen(): boolean {
    return this.#closedBy === undefined;
  }

  /** Why the session has ended; undefined while it goes on. */
  get closedBy(): CryoboxError | undefined {
    return this.#closedBy;
  }

  /**
   * Runs `cause` and resolves with the first event that `accept` takes, which may come before `cause` is done. Rejects
   * with what `cause` throws, with `timeout`, or `machine_failed` when the session ends; it waits for nothing then.
   */
  async waitFor(
    { what, accept, timeoutMs = defaultTimeoutMs }: QmpWait,
    cause: () => Promise<unknown>,
  ): Promise<QmpEvent> {
    if (this.#closedBy) throw this.#closedBy;
    let stop: () => void = () => undefined;
    const seen = new Promise<QmpEvent>((resolve, reject) => {
      const off = this.onEvent((event) => {
        if (accept(event)) resolve(event);
      });
      const timer = setTimeout(
        () => reject(new CryoboxError('timeout', `QEMU did not report ${what} within ${timeoutMs} ms`)),
        timeoutMs,
      );
      this.#closers.add(reject);
      stop = () => {
        off();
        clearTimeout(timer);
        this.#closers.delete(reject);
      };
    });
    try {
      const [event] = await Promise.all([seen, cause()]);
      return event;
    } finally {
      stop();
    }
  }

  /** Ends the session; QEMU goes on. */
  close(): void {
    this.#end(failure('the control session was closed'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.closed;
  }

  #end(error: CryoboxError): void {
    if (this.#closedBy) return;
    this.#closedBy = error;
    this.#failGreeting(error);
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(new CryoboxError(error.code, `${pending.command}: ${error.message}`, { cause: error }));
    }
    this.#pending.clear();
    for (const close of this.#closers) close(error);
    this.#closers.clear();
    this.#socket.destroy();
  }

  /** Handles the next line; false when none is whole. */
  #step(): boolean {
    if (this.#closedBy) return false;
    const newline = this.#rest.indexOf(10);
    const piece = newline === -1 ? this.#rest : this.#rest.subarray(0, newline);
    this.#pieceBytes += piece.length;
    if (this.#pieceBytes > maxLineBytes) {
      this.#end(failure(`QEMU sent a line over ${maxLineBytes} bytes`));
      return false;
    }
    if (piece.length > 0) this.#pieces.push(piece);
    if (newline === -1) {
      this.#rest = Buffer.alloc(0);
      if (this.#pieces.length > maxPieces) this.#pieces = [Buffer.concat(this.#pieces)];
      return false;
    }
    this.#rest = this.#rest.subarray(newline + 1);
    const line = Buffer.concat(this.#pieces).toString('utf8');
    this.#pieces = [];
    this.#pieceBytes = 0;
    if (line.trim() !== '') this.#line(line);
    return true;
  }

  #line(line: string): void {
    let message: z.infer<typeof qmpMessage>;
    try {
      message = qmpMessage.parse(parseJson(line, lineBounds));
    } catch (error) {
      this.#end(failure(`QEMU sent what is no message: ${line.slice(0, 80)}`, error));
      return;
    }
    if (message.QMP !== undefined) this.#greet();
    else if (message.event !== undefined) {
      const event: QmpEvent = { event: message.event, data: message.data ?? {} };
      for (const listener of [...this.#listeners]) listener(event);
    } else this.#answer(message);
  }

  #answer(message: z.infer<typeof qmpMessage>): void {
    const pending = typeof message.id === 'number' ? this.#pending.get(message.id) : undefined;
    if (!pending || typeof message.id !== 'number') return;
    this.#pending.delete(message.id);
    clearTimeout(pending.timer);
    if (message.error) {
      const { class: kind, desc } = message.error;
      pending.reject(refusal(`QEMU refused ${pending.command}: ${desc.slice(0, maxErrorText)}`, kind));
    } else {
      faultPoint('qmp:after');
      pending.resolve(message.return);
    }
  }
}

function checked<T>(command: string, schema: z.ZodType<T>, answer: unknown): T {
  const { data, error } = schema.safeParse(answer);
  if (error) throw failure(`QEMU answered ${command} with what is no answer to it`, error);
  return data;
}

/** QEMU has no code for the host's errors, only the C library's words for them. */
function refusal(message: string, kind: string): CryoboxError {
  if (message.includes('No space left on device')) return new CryoboxError('disk_full', message);
  return failure(message, undefined, { class: kind });
}

function failure(message: string, cause?: unknown, details: Record<string, unknown> = {}): CryoboxError {
  return new CryoboxError('machine_failed', message, { cause, details });
}
