import type { Socket } from 'node:net';
import { faultPoint } from '../base/faults.js';
import { connectUnix } from '../base/socket.js';
import { CryoboxError, messageOf } from '../errors.js';

/** An event QEMU sent (QMP specification, section 2.5 "Asynchronous events"). */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Longest answer accepted, so that a broken peer cannot fill memory; `query-qmp-schema` is about 200 KiB. */
const maxLineBytes = 4 * 1024 * 1024;
/** Commands answer within milliseconds; a QEMU that takes this long hangs. */
const defaultTimeoutMs = 20_000;

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

interface QmpMessage {
  readonly QMP?: unknown;
  readonly event?: string;
  readonly data?: Record<string, unknown>;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

/** A QMP session with one QEMU (QEMU Machine Protocol Specification). */
export class QmpClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeted: Promise<void>;
  #greet: () => void = () => undefined;
  #failGreeting: (error: Error) => void = () => undefined;
  #buffered: Buffer[] = [];
  #bufferedBytes = 0;
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
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#end(new CryoboxError('machine_failed', 'QEMU closed its control socket'));
        resolve();
      });
    });
    socket.on('error', (error) => this.#end(failure(`QEMU's control socket failed: ${messageOf(error)}`)));
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
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
  execute<T = unknown>(command: string, args: object = {}, options: { timeoutMs?: number } = {}): Promise<T> {
    if (this.#closedBy) return Promise.reject(this.#closedBy);
    const id = this.#nextId++;
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new CryoboxError('timeout', `QEMU did not answer ${command} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#pending.set(id, { command, resolve: resolve as (value: unknown) => void, reject, timer });
      faultPoint('qmp:before');
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** Calls `listener` for each event until the returned function is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The first event that `accept` takes. Rejects with `timeout`, or `machine_failed` when the session ends. */
  waitFor(
    what: string,
    accept: (event: QmpEvent) => boolean,
    timeoutMs = defaultTimeoutMs,
  ): Promise<QmpEvent> {
    return new Promise((resolve, reject) => {
      const finish = (act: () => void): void => {
        off();
        clearTimeout(timer);
        act();
      };
      const off = this.onEvent((event) => {
        if (accept(event)) finish(() => resolve(event));
      });
      const timer = setTimeout(
        () =>
          finish(() =>
            reject(new CryoboxError('timeout', `QEMU did not report ${what} within ${timeoutMs} ms`)),
          ),
        timeoutMs,
      );
      void this.closed.then(() => finish(() => reject(this.#closedBy ?? failure('the session ended'))));
    });
  }

  /** Events from now on; ends with the session. */
  async *events(): AsyncGenerator<QmpEvent, void, void> {
    const queue: QmpEvent[] = [];
    let wake: () => void = () => undefined;
    let open = true;
    const off = this.onEvent((event) => {
      queue.push(event);
      wake();
    });
    void this.closed.then(() => {
      open = false;
      wake();
    });
    try {
      while (open || queue.length > 0) {
        const event = queue.shift();
        if (event) yield event;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      off();
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
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    let rest = chunk;
    for (let newline = rest.indexOf(10); newline >= 0; newline = rest.indexOf(10)) {
      const line = Buffer.concat([...this.#buffered, rest.subarray(0, newline)]).toString('utf8');
      this.#buffered = [];
      this.#bufferedBytes = 0;
      rest = rest.subarray(newline + 1);
      if (line.trim() !== '') this.#line(line);
    }
    if (rest.length === 0) return;
    this.#buffered.push(rest);
    this.#bufferedBytes += rest.length;
    if (this.#bufferedBytes > maxLineBytes) this.#end(failure(`QEMU sent a line over ${maxLineBytes} bytes`));
  }

  #line(line: string): void {
    let message: QmpMessage;
    try {
      message = JSON.parse(line) as QmpMessage;
    } catch (error) {
      this.#end(failure(`QEMU sent no JSON: ${line.slice(0, 80)}`, error));
      return;
    }
    if (message.QMP !== undefined) this.#greet();
    else if (message.event !== undefined) {
      const event: QmpEvent = { event: message.event, data: message.data ?? {} };
      for (const listener of [...this.#listeners]) listener(event);
    } else this.#answer(message);
  }

  #answer(message: QmpMessage): void {
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (!pending || message.id === undefined) return;
    this.#pending.delete(message.id);
    clearTimeout(pending.timer);
    if (message.error) {
      const { class: kind, desc } = message.error;
      pending.reject(refusal(`QEMU refused ${pending.command}: ${desc}`, kind));
    } else {
      faultPoint('qmp:after');
      pending.resolve(message.return);
    }
  }
}

/** QEMU has no code for the host's errors, only the C library's words for them. */
function refusal(message: string, kind: string): CryoboxError {
  if (message.includes('No space left on device')) return new CryoboxError('disk_full', message);
  return failure(message, undefined, { class: kind });
}

function failure(message: string, cause?: unknown, details: Record<string, unknown> = {}): CryoboxError {
  return new CryoboxError('machine_failed', message, { cause, details });
}
