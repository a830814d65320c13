import { WebSocket } from 'ws';
import type {
  CallOptions,
  Execution,
  ExitStatus,
  Output,
  StartExecOptions,
  StdinWriter,
  TerminalSize,
} from '../api/index.js';
import { outputLost } from '../base/lost-output.js';
import { mergedOutput, OutputStream } from '../base/output-stream.js';
import { signalName } from '../base/signal-name.js';
import { CryoboxError, isCryoboxError } from '../errors.js';
import { type AttachedMessage, ackEveryBytes, type ExecMessage } from '../wire/execution.js';
import { compact } from '../wire/json.js';
import { ByteQueue } from './byte-queue.js';
import { listenToExec, lostConnection } from './exec-socket.js';
import { RemoteStdin } from './stdin.js';
import { segment, type Transport } from './transport.js';

/** Output taken from the network ahead of the reader, both streams together; beyond it the command waits. */
const highWaterBytes = 1024 * 1024;
/** When a lost connection is made again: a server restarts within seconds. */
const reconnectDelaysMs = [50, 200, 500, 1000, 2000, 4000, 8000];
/** Time for what was written to reach the server before a detach cuts the connection. */
const detachMs = 1000;

/** How an execution begins: by running a command, or by attaching to one. */
export type ExecStart =
  | {
      readonly kind: 'run';
      readonly argv: readonly string[];
      readonly options: StartExecOptions;
      readonly stdin: boolean;
      readonly killOnDisconnect: boolean;
    }
  | {
      readonly kind: 'attach';
      readonly executionId: string;
      readonly stdin: boolean;
      readonly killOnDisconnect?: boolean;
    };

/** The first message for a command. */
function execMessage(start: Extract<ExecStart, { kind: 'run' }>): ExecMessage {
  const { options } = start;
  return compact({
    type: 'exec' as const,
    argv: start.argv,
    env: options.env,
    cwd: options.cwd,
    user: options.user,
    timeout_ms: options.timeoutMs,
    tty: options.tty,
    stdin: start.stdin,
    kill_on_disconnect: start.killOnDisconnect,
    ack: true,
  });
}

interface Settle {
  readonly resolve: (status: ExitStatus) => void;
  readonly reject: (error: Error) => void;
}

function cancelled(): CryoboxError {
  return new CryoboxError('cancelled', 'The call was cancelled');
}

/** A command in a box behind a server. Comes back by itself when the connection breaks. */
export class RemoteExecution implements Execution {
  readonly #transport: Transport;
  readonly #boxPath: string;
  readonly #queues = {
    stdout: new ByteQueue((bytes) => this.#taken(bytes)),
    stderr: new ByteQueue((bytes) => this.#taken(bytes)),
  };
  readonly stdout: Output = new OutputStream(this.#queues.stdout);
  readonly stderr: Output = new OutputStream(this.#queues.stderr);
  readonly all: Output = mergedOutput([this.stdout, this.stderr]);
  readonly #exit: Promise<ExitStatus>;
  readonly #settle: Settle;
  #socket: WebSocket | undefined;
  #facts: AttachedMessage | undefined;
  #queued = 0;
  /** Offsets behind the last byte that came, by the server's count, and what it was told of them. */
  readonly #at = { stdout: 0, stderr: 0 };
  readonly #told = { stdout: 0, stderr: 0 };
  /** Lost while nobody was attached, over all connections. */
  readonly #dropped = { stdout: 0, stderr: 0 };
  #detached = false;
  readonly #stdin: RemoteStdin | null;
  readonly #killOnDisconnect: boolean;

  private constructor(transport: Transport, boxPath: string, start: ExecStart) {
    this.#killOnDisconnect = start.killOnDisconnect ?? false;
    this.#transport = transport;
    this.#boxPath = boxPath;
    let settle: Settle = { resolve: () => undefined, reject: () => undefined };
    this.#exit = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#settle = settle;
    this.#exit.catch(() => undefined);
    this.#stdin = start.stdin ? new RemoteStdin() : null;
  }

  /** Runs or attaches; `boxPath` is the box's path below `/v1`. */
  static async open(
    transport: Transport,
    boxPath: string,
    start: ExecStart,
    signal?: AbortSignal,
  ): Promise<RemoteExecution> {
    if (signal?.aborted) throw cancelled();
    const execution = new RemoteExecution(transport, boxPath, start);
    await transport.reaching(() => execution.#connect(start, signal), signal);
    return execution;
  }

  get id(): string {
    return this.#known().execution_id;
  }

  get boxId(): string {
    return this.#known().box_id;
  }

  get stdin(): StdinWriter | null {
    return this.#stdin;
  }

  get droppedBytes(): { readonly stdout: number; readonly stderr: number } {
    return { ...this.#dropped };
  }

  async wait({ signal }: CallOptions = {}): Promise<ExitStatus> {
    if (!signal) return this.#exit;
    if (signal.aborted) throw cancelled();
    let abort: (() => void) | undefined;
    const aborted = new Promise<never>((_resolve, reject) => {
      abort = () => reject(cancelled());
      signal.addEventListener('abort', abort, { once: true });
    });
    try {
      return await Promise.race([this.#exit, aborted]);
    } finally {
      if (abort) signal.removeEventListener('abort', abort);
    }
  }

  async signal(signal: number | string): Promise<void> {
    await signalExecution(this.#transport, this.#boxPath, this.id, signal);
  }

  async kill(): Promise<void> {
    await this.#transport.empty({ method: 'DELETE', path: this.#path() });
  }

  async resize(size: TerminalSize): Promise<void> {
    const json = { cols: size.cols, rows: size.rows };
    await this.#transport.empty({ method: 'POST', path: `${this.#path()}/resize`, json });
  }

  async detach(): Promise<void> {
    if (this.#detached) return;
    this.#detached = true;
    this.#queues.stdout.end();
    this.#queues.stderr.end();
    const socket = this.#socket;
    if (!socket || socket.readyState === WebSocket.CLOSED) return;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    const cut = setTimeout(() => socket.terminate(), detachMs);
    socket.resume();
    socket.close(1000);
    await closed;
    clearTimeout(cut);
  }

  /** Cuts the connection at once: a command begun with `killOnDisconnect` ends. */
  abandon(): void {
    this.#detached = true;
    this.#socket?.terminate();
    this.#fail(cancelled());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }

  #known(): AttachedMessage {
    if (this.#facts) return this.#facts;
    throw new CryoboxError('internal', 'The execution was not opened');
  }

  #path(): string {
    return `${this.#boxPath}/executions/${segment(this.id)}`;
  }

  async #connect(start: ExecStart, signal?: AbortSignal): Promise<void> {
    const run = start.kind === 'run';
    const path = run
      ? `${this.#boxPath}/exec`
      : `${this.#boxPath}/executions/${segment(start.executionId)}/attach`;
    const from = this.#facts ? { stdout_at: this.#at.stdout, stderr_at: this.#at.stderr } : {};
    const kill = this.#killOnDisconnect ? { kill_on_disconnect: true } : {};
    const query = run ? undefined : { utf8: false, ack: true, stdin: start.stdin, ...kill, ...from };
    const { socket, open } = this.#transport.socket(path, query, signal);
    this.#socket = socket;
    const attached = listenToExec(socket, {
      attached: (facts) => this.#began(socket, facts),
      stdinTaken: (bytes) => this.#stdin?.taken(bytes),
      output: (channel, bytes) => this.#output(channel, bytes),
      outputLost: (channel, error) => this.#outputLost(channel, error),
      exit: (status) => this.#ended(status),
      refused: (error) => this.#fail(error),
      lost: () => this.#reconnect(),
    });
    attached.catch(() => undefined);
    const abort = (): void => socket.terminate();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      await open;
      if (run) socket.send(JSON.stringify(execMessage(start)));
      await attached;
    } catch (error) {
      throw signal?.aborted ? cancelled() : error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  #began(socket: WebSocket, facts: AttachedMessage): void {
    const holes = new Set<'stdout' | 'stderr'>();
    // Before the first attach everything earlier is lost, later only what lies between what came and what follows.
    for (const channel of ['stdout', 'stderr'] as const) {
      const hole = facts[`${channel}_at`] - this.#at[channel];
      if (!this.#facts) this.#dropped[channel] = facts[`dropped_${channel}`];
      else if (hole > 0) {
        this.#dropped[channel] += hole;
        holes.add(channel);
      }
    }
    const sameCount = facts.stream_id === this.#facts?.stream_id && facts.stream_id !== '';
    this.#facts = facts;
    Object.assign(this.#at, { stdout: facts.stdout_at, stderr: facts.stderr_at });
    Object.assign(this.#told, this.#at);
    for (const channel of holes) this.#queues[channel].end(outputLost(this));
    this.#stdin?.connected(socket, sameCount ? facts.stdin_at : undefined);
  }

  #acknowledge(): void {
    const { stdout, stderr } = this.#at;
    if (stdout - this.#told.stdout + stderr - this.#told.stderr < ackEveryBytes) return;
    Object.assign(this.#told, this.#at);
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ type: 'ack', stdout, stderr }), () => undefined);
    }
  }

  #output(channel: 'stdout' | 'stderr', bytes: Uint8Array): void {
    this.#at[channel] += bytes.length;
    this.#acknowledge();
    this.#queued += bytes.length;
    if (this.#queued > highWaterBytes) this.#socket?.pause();
    this.#queues[channel].push(bytes);
  }

  /** The server met a hole: what it could not get is in the error. */
  #outputLost(channel: 'stdout' | 'stderr', error: CryoboxError): void {
    const bytes = error.details[channel === 'stdout' ? 'droppedStdout' : 'droppedStderr'];
    if (typeof bytes === 'number') this.#dropped[channel] = Math.max(this.#dropped[channel], bytes);
    this.#queues[channel].end(error);
  }

  #taken(bytes: number): void {
    this.#queued -= bytes;
    if (this.#queued <= highWaterBytes && this.#socket?.isPaused) this.#socket.resume();
  }

  #ended(status: ExitStatus): void {
    this.#queues.stdout.end();
    this.#queues.stderr.end();
    this.#stdin?.fail(new CryoboxError('invalid_state', 'The command has ended'));
    this.#settle.resolve(status);
  }

  #fail(error: Error): void {
    this.#queues.stdout.end(error);
    this.#queues.stderr.end(error);
    this.#stdin?.fail(error);
    this.#settle.reject(error);
  }

  #reconnect(): void {
    if (this.#detached) {
      this.#settle.reject(new CryoboxError('cancelled', 'The execution was detached'));
      return;
    }
    this.#tryAgain().catch((error: unknown) => this.#fail(error instanceof Error ? error : lostConnection()));
  }

  async #tryAgain(): Promise<void> {
    let last: unknown = lostConnection();
    for (const delayMs of reconnectDelaysMs) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      if (this.#detached) return;
      try {
        await this.#transport.revive();
        return await this.#connect({ kind: 'attach', executionId: this.id, stdin: this.stdin !== null });
      } catch (error) {
        last = error;
        // Not there any more, or not allowed: waiting does not help.
        if (isCryoboxError(error) && error.fault === 'user' && error.code !== 'conflict') break;
      }
    }
    throw last;
  }
}

/** Sends a signal by number or name. By number a server lets only some through (v1), by name all. */
export async function signalExecution(
  transport: Transport,
  boxPath: string,
  id: string,
  signal: number | string,
  options: CallOptions = {},
): Promise<void> {
  await transport.empty({
    method: 'POST',
    path: `${boxPath}/executions/${segment(id)}/signal`,
    json: { signal: typeof signal === 'number' ? (signalName(signal) ?? signal) : signal },
    signal: options.signal,
  });
}
