import type { z } from 'zod';
import { CryoboxError, isCryoboxError } from '../errors.js';
import {
  brokenAgent,
  checkedAnswer,
  executionInfo,
  executionPage,
  exitEvent,
  joinedExecution,
  outputAnswer,
} from './answers.js';
import type { AgentConnection, Answer, RequestOptions } from './connection.js';
import { GuestReadable, type GuestWritable } from './streams.js';
import { sendWords } from './words.js';

/** More than an agent keeps (docs/PROTOCOL.md, section 1): a guest that lists on and on is not followed. */
const maxListed = 4096;

/** What an agent keeps of an output, and what had come when nothing could be dropped (docs/PROTOCOL.md, section 6). */
const maxKeptBytes = 1024 * 1024;

/** What to run. */
export interface ExecutionOptions {
  /** Name of the execution, unique in the guest: 1 to 64 letters, digits, `-`, `_`. */
  readonly id: string;
  readonly argv: readonly string[];
  /** The whole environment. `PATH` and `HOME` are filled in when missing. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default `/`. */
  readonly cwd?: string;
  /** `name`, `uid`, `name:group` or `uid:gid` by the image's own files; default root. */
  readonly user?: string;
  /** Run on a terminal of this size: stdout then carries everything, and there is no stderr. */
  readonly tty?: TerminalSize | null;
  /** Kill the execution with all it started after this; default never. */
  readonly timeoutMs?: number;
  /** Open stdin for writing; default false: an empty input. */
  readonly stdin?: boolean;
  readonly dropCapabilities?: readonly string[];
  readonly addCapabilities?: readonly string[];
}

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** How an execution ended. */
export type ExecutionExit = Readonly<Omit<z.infer<typeof exitEvent>, 'exec'>>;

/** An execution as the agent lists it. */
export type ExecutionInfo = Readonly<z.infer<typeof executionInfo>>;

/** From where to take output when attaching again; offsets count bytes since the start. */
export interface AttachOptions {
  readonly stdoutFrom?: number;
  readonly stderrFrom?: number;
}

/** What an agent keeps of one output. */
export interface KeptOutput {
  /** Offset of its first byte, counted from the first that was written. */
  readonly at: number;
  readonly bytes: Buffer;
}

/** What an attach found. */
export interface AttachedState {
  /** Bytes of output that were asked for and are no longer kept. */
  readonly stdoutDropped: number;
  readonly stderrDropped: number;
  /** Bytes of input the guest has taken so far: write on from there. */
  readonly stdinAccepted: number;
}

/** A running or ended execution, attached to this connection. */
export class Execution {
  readonly id: string;
  readonly pid: number;
  /** Input, when it was asked for. End it to close the process's stdin; on a terminal that types ^D. */
  readonly stdin: GuestWritable | undefined;
  /** Output; it must be read for the process to go on beyond a window of 256 KiB. */
  readonly stdout: GuestReadable;
  /** Error output; undefined with a terminal. */
  readonly stderr: GuestReadable | undefined;
  /** How it ended, after all output has been received. Rejects when the connection ends or it is detached. */
  readonly exit: Promise<ExecutionExit>;
  readonly attached: AttachedState;
  readonly #connection: AgentConnection;
  readonly #release: (error: CryoboxError) => void;

  /** @internal */
  constructor(connection: AgentConnection, parts: ExecutionParts) {
    this.#connection = connection;
    this.#release = parts.release;
    this.id = parts.id;
    this.pid = parts.pid;
    this.stdin = parts.stdin;
    this.stdout = parts.stdout;
    this.stderr = parts.stderr;
    this.exit = parts.exit;
    this.attached = parts.attached;
  }

  /** Sends a signal, by number or name, to the process group. */
  async signal(signal: number | string, options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.signal', { exec: this.id, signal }, options);
  }

  /** Kills every process the execution led to. */
  async kill(options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.kill', { exec: this.id }, options);
  }

  /** Tells the terminal its new size. */
  async resize(size: TerminalSize, options?: RequestOptions): Promise<void> {
    await this.#connection.request(
      'exec.resize',
      { exec: this.id, cols: size.cols, rows: size.rows },
      options,
    );
  }

  /** Lets it run on unattended; the agent keeps the last 256 KiB of each output. `exit` rejects. */
  async detach(options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.detach', { exec: this.id }, options);
    this.#release(new CryoboxError('cancelled', `execution ${this.id} was detached`));
  }
}

interface ExecutionParts {
  readonly id: string;
  readonly pid: number;
  readonly stdin: GuestWritable | undefined;
  readonly stdout: GuestReadable;
  readonly stderr: GuestReadable | undefined;
  readonly exit: Promise<ExecutionExit>;
  readonly attached: AttachedState;
  readonly release: (error: CryoboxError) => void;
}

interface Waiting {
  resolve(exit: ExecutionExit): void;
  reject(error: CryoboxError): void;
}

/** Executions of one agent. */
export class AgentExecutions {
  readonly #connection: AgentConnection;
  readonly #waiting = new Map<string, Waiting>();
  readonly #endListeners = new Set<(id: string, exit: ExecutionExit) => void>();

  constructor(connection: AgentConnection) {
    this.#connection = connection;
    connection.onEvent((event) => this.#event(event));
    const failAll = (error: CryoboxError): void => {
      for (const waiting of this.#waiting.values()) waiting.reject(error);
      this.#waiting.clear();
    };
    connection.closed.then(failAll, failAll);
  }

  /**
   * Starts a process; resolves when it runs.
   * @throws CryoboxError `command_not_found`, `command_not_executable`, `cwd_not_found`, `user_not_found`,
   * `execution_failed`, `already_exists` for the id, `resource_exhausted`, and those of the connection.
   */
  async start(options: ExecutionOptions, request?: RequestOptions): Promise<Execution> {
    const { id, stdin, argv, env, ...more } = options;
    const withStdin = stdin === true;
    const withStderr = (options.tty ?? null) === null;
    const args = { ...more, ...(await sendWords(this.#connection, id, { argv, env }, request)) };
    return this.#join('exec.start', id, args, { withStdin, withStderr }, request);
  }

  /**
   * Attaches to an execution that nobody is attached to: one left by an engine that ended, or detached.
   * @throws CryoboxError `not_found`, `conflict` when attached already, and those of the connection.
   */
  async attach(id: string, options: AttachOptions = {}, request?: RequestOptions): Promise<Execution> {
    const args = { ...options };
    return this.#join('exec.attach', id, args, { withStdin: true, withStderr: true }, request);
  }

  /** Everything that runs, and what ended in the last five minutes. */
  async list(options?: RequestOptions): Promise<ExecutionInfo[]> {
    const all: ExecutionInfo[] = [];
    for (let after = ''; ; ) {
      const answer = await this.#connection.request('exec.list', { after }, options);
      const page = checkedAnswer(executionPage, answer, 'exec.list');
      for (const each of page.executions) all.push(checkedAnswer(executionInfo, each, 'exec.list'));
      const last = all.at(-1);
      if (page.more !== true || page.executions.length === 0 || last === undefined || all.length > maxListed)
        return all;
      after = last.exec;
    }
  }

  /** Calls a listener when the main command has ended, attached or not (docs/PROTOCOL.md, section 6). */
  onEnded(listener: (id: string, exit: ExecutionExit) => void): void {
    this.#endListeners.add(listener);
  }

  /** What is kept of an output, whoever is attached. @throws CryoboxError `not_found`, and those of the connection. */
  async output(id: string, output: 'stdout' | 'stderr', options: RequestOptions = {}): Promise<KeptOutput> {
    const stream = this.#connection.newReadable();
    const asked = this.#connection.request('exec.output', { exec: id, output, stream: stream.id }, options);
    asked.catch((error: Error) => stream.destroy(error));
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > maxKeptBytes) throw brokenAgent(`more than ${maxKeptBytes} bytes of an output are kept`);
    }
    const { at } = checkedAnswer(outputAnswer, await asked, 'exec.output');
    return { at, bytes: Buffer.concat(chunks) };
  }

  /** One of them. @throws CryoboxError `not_found`. */
  async get(id: string, options?: RequestOptions): Promise<ExecutionInfo> {
    const answer = await this.#connection.request('exec.get', { exec: id }, options);
    return checkedAnswer(executionInfo, answer, 'exec.get');
  }

  /** Sends a signal, by number or name, to the process group of an execution. */
  async signal(id: string, signal: number | string, options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.signal', { exec: id, signal }, options);
  }

  /** Kills every process an execution led to, attached or not. */
  async kill(id: string, options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.kill', { exec: id }, options);
  }

  /** Tells the terminal of an execution its new size. */
  async resize(id: string, size: TerminalSize, options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.resize', { exec: id, ...size }, options);
  }

  /** Drops what the agent keeps of an ended execution. */
  async forget(id: string, options?: RequestOptions): Promise<void> {
    await this.#connection.request('exec.forget', { exec: id }, options);
  }

  async #join(
    op: string,
    id: string,
    args: Record<string, unknown>,
    wanted: { withStdin: boolean; withStderr: boolean },
    request?: RequestOptions,
  ): Promise<Execution> {
    if (this.#waiting.has(id)) {
      throw new CryoboxError('conflict', `execution ${id} is attached to this connection already`);
    }
    const floating = op === 'exec.attach';
    const stdin = wanted.withStdin ? this.#connection.newWritable() : undefined;
    const stdout = this.#connection.newReadable(floating);
    const stderr = wanted.withStderr ? this.#connection.newReadable(floating) : undefined;
    const streams = { stdin: stdin?.id ?? 0, stdout: stdout.id, stderr: stderr?.id ?? 0 };
    const release = (error: CryoboxError) => {
      for (const stream of [stdin, stdout, stderr]) stream?.fail(error);
      this.#settle(id)?.reject(error);
    };
    const answered = this.#connection.request(op, { ...args, exec: id, ...streams }, request);
    const exit = this.#expectExit(id, stdin);
    try {
      const answer = checkedAnswer(joinedExecution, await answered, op);
      startAt(answer, stdin, stdout, stderr);
      const kept = <T extends GuestReadable | GuestWritable>(
        name: 'stdin' | 'stdout' | 'stderr',
        stream: T | undefined,
      ) => (answer[name] === false ? this.#drop(stream) : stream);
      const { stdoutDropped, stderrDropped, stdinAccepted = 0 } = answer;
      return new Execution(this.#connection, {
        id,
        pid: answer.pid,
        stdin: kept('stdin', stdin),
        stdout: kept('stdout', stdout) ?? stdout,
        stderr: kept('stderr', stderr),
        exit,
        attached: { stdoutDropped, stderrDropped, stdinAccepted },
        release,
      });
    } catch (error) {
      if (op === 'exec.start') this.#endAbandoned(id, error);
      for (const stream of [stdin, stdout, stderr]) {
        stream?.on('error', () => undefined);
        stream?.destroy();
      }
      this.#settle(id);
      throw error;
    }
  }

  /**
   * Ends a command whose start nobody waits for any more. The agent takes requests up in their order: this reaches it
   * after the start, whenever that is.
   */
  #endAbandoned(id: string, error: unknown): void {
    if (!isCryoboxError(error, 'cancelled') && !isCryoboxError(error, 'timeout')) return;
    // For as long as the connection lives; a start that never reached the agent has nothing to kill.
    this.#connection.request('exec.kill', { exec: id }, { timeoutMs: 0 }).catch(() => undefined);
  }

  /** A stream that the execution does not have. */
  #drop(stream: GuestReadable | GuestWritable | undefined): undefined {
    if (stream instanceof GuestReadable) stream.finish();
    else stream?.destroy();
  }

  #settle(id: string): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #expectExit(id: string, stdin: GuestWritable | undefined): Promise<ExecutionExit> {
    const exit = new Promise<ExecutionExit>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    const stopInput = () => stdin?.fail(new CryoboxError('stopped', `execution ${id} has ended`));
    // Whoever does not wait for the end need not hear that it cannot be seen.
    exit.then(stopInput, stopInput);
    return exit;
  }

  #event(event: Answer): void {
    if (event.ev === 'ended') {
      const { exec, ...exit } = checkedAnswer(exitEvent, event, 'the end of the main command');
      for (const listener of this.#endListeners) listener(exec, exit);
      return;
    }
    if (event.ev !== 'exit') return;
    const { exec, ...exit } = checkedAnswer(exitEvent, event, 'the end of an execution');
    this.#settle(exec)?.resolve(exit);
  }
}

function startAt(
  answer: z.infer<typeof joinedExecution>,
  stdin: GuestWritable | undefined,
  stdout: GuestReadable,
  stderr: GuestReadable | undefined,
): void {
  if (answer.stdinAccepted !== undefined) stdin?.startAt(answer.stdinAccepted);
  if (answer.stdoutAt !== undefined) stdout.startAt(answer.stdoutAt);
  if (answer.stderrAt !== undefined) stderr?.startAt(answer.stderrAt);
}
