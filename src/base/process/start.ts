import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { CryoboxError, errnoOf } from '../../errors.js';
import { nullDescriptor, strayDescriptors } from './descriptors.js';
import { startFailure } from './failure.js';

/** How a process is started. */
export interface StartOptions {
  readonly args?: readonly string[];
  /** @default this process's */
  readonly cwd?: string;
  /** @default this process's */
  readonly env?: NodeJS.ProcessEnv;
  /** Who it runs as; only root may change that. @default this process's user */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** A pipe, or an open file by its number. @default ignore */
  readonly stdin?: 'ignore' | 'pipe' | number;
  /** A pipe, or an open file by its number. @default ignore */
  readonly stdout?: 'ignore' | 'pipe' | number;
  /** `keep`: its last 4 KiB are kept for {@link ProcessEnd.stderr}. @default keep */
  readonly stderr?: 'ignore' | 'keep' | 'pipe' | number;
  /** Whether it gets a socket to this process as descriptor 3. @default false */
  readonly channel?: boolean;
  /** Whether it leads a session of its own: a signal reaches its children too, and none of the terminal's reaches it. */
  readonly session?: boolean;
  /** It is killed after this time. @default no limit */
  readonly timeoutMs?: number;
  /** It is killed when this is aborted. */
  readonly signal?: AbortSignal | undefined;
  /** What to do when the program is not installed. @default names its Debian package */
  readonly installHint?: string;
}

/** How a process ended. */
export interface ProcessEnd {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it wrote on its standard error, where that was kept. */
  readonly stderr: string;
  /** Whether it was killed because its time was over. */
  readonly timedOut: boolean;
}

/** What is kept of a process's own messages: a program that complains for ever fills no memory. */
const keptStderrBytes = 4096;
/** A process that was killed is gone at once, unless it waits for a device that does not answer. */
const killWaitMs = 10_000;

/**
 * Starts a process. Whoever gets it owns it: disposing of it kills it, unless it was released before. Throws
 * `config_error` when the program is missing or may not be executed, `resource_exhausted` when the host is at a limit,
 * `cancelled`.
 */
export async function startProcess(command: string, options: StartOptions = {}): Promise<StartedProcess> {
  const { signal } = options;
  if (signal?.aborted) {
    throw new CryoboxError('cancelled', `the start of ${command} was cancelled`, { cause: signal.reason });
  }
  const stray = strayDescriptors();
  const first = await spawned(command, options, stray);
  if ('child' in first) return new StartedProcess(first.child, first.pid, command, options);
  // Where this process may open fewer files than a stray descriptor's number, there is no way to keep it back.
  const isTooHigh = stray.length > 0 && ['EINVAL', 'EMFILE'].includes(errnoOf(first.error) ?? '');
  const last = isTooHigh ? await spawned(command, options, []) : first;
  if ('child' in last) return new StartedProcess(last.child, last.pid, command, options);
  throw startFailure(last.error, { command, ...options });
}

type Spawned = { readonly child: ChildProcess; readonly pid: number } | { readonly error: unknown };

async function spawned(command: string, options: StartOptions, stray: readonly number[]): Promise<Spawned> {
  try {
    const child = spawn(command, [...(options.args ?? [])], {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.user ?? {}),
      detached: options.session === true,
      stdio: stdioOf(options, stray),
    });
    // Most refusals are told by an event in the next tick. A kill that fails is told by the same one, later.
    const failed = new Promise<Error>((resolve) => child.on('error', resolve));
    return child.pid === undefined ? { error: await failed } : { child, pid: child.pid };
  } catch (error) {
    // Limits of memory, and users that do not exist, are thrown at once.
    return { error };
  }
}

function stdioOf(options: StartOptions, stray: readonly number[]): StdioOptions {
  const { stdin = 'ignore', stdout = 'ignore', stderr = 'keep', channel = false } = options;
  const stdio: Exclude<StdioOptions, string> = [stdin, stdout, stderr === 'keep' ? 'pipe' : stderr];
  if (channel) stdio[3] = 'pipe';
  for (const fd of stray) stdio[fd] ??= nullDescriptor();
  // Node leaves out what is absent and moves the rest up; what is ignored keeps its place, and is not opened.
  return Array.from(stdio, (each) => each ?? 'ignore');
}

/** A process that was started, and whose end this process hears of. */
export class StartedProcess implements AsyncDisposable {
  readonly pid: number;
  readonly command: string;
  /** Resolves when it has ended; never rejects. Its output may still have to be read. */
  readonly exited: Promise<ProcessEnd>;
  /** Resolves when it has ended and its output is closed; never rejects. */
  readonly closed: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #session: boolean;
  #stderr: Buffer = Buffer.alloc(0);
  #timedOut = false;
  #hasExited = false;
  #released = false;
  #stopWatching: () => void = () => undefined;

  /** For {@link startProcess} only. */
  constructor(child: ChildProcess, pid: number, command: string, options: StartOptions) {
    this.#child = child;
    this.pid = pid;
    this.command = command;
    this.#session = options.session === true;
    const end = (code: number | null, signal: NodeJS.Signals | null): ProcessEnd => ({
      code,
      signal,
      stderr: this.#stderr.toString('utf8').trim(),
      timedOut: this.#timedOut,
    });
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#hasExited = true;
        this.#stopWatching();
        resolve(end(code, signal));
      });
    });
    this.closed = new Promise((resolve) => child.once('close', (code, signal) => resolve(end(code, signal))));
    // A process that does not read its input breaks the pipe; how it ended says more.
    child.stdin?.on('error', () => undefined);
    if ((options.stderr ?? 'keep') === 'keep') this.#keepStderr(child.stderr);
    this.#watch(options);
  }

  /** Its standard input, started as `pipe`. */
  get stdin(): Writable {
    return this.#piped(this.#child.stdin, 'input');
  }

  /** Its standard output, started as `pipe`. */
  get stdout(): Readable {
    return this.#piped(this.#child.stdout, 'output');
  }

  /** Its standard error, started as `pipe`. */
  get stderr(): Readable {
    return this.#piped(this.#child.stderr, 'error output');
  }

  /** The socket that is its descriptor 3. */
  get channel(): Socket {
    return this.#piped(this.#child.stdio[3] as Socket | null | undefined, 'channel');
  }

  /** Sends a signal, to its children too when it leads a session. Nothing happens when it has ended. */
  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    if (this.#hasExited) return;
    try {
      process.kill(this.#session ? -this.pid : this.pid, signal);
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') throw error;
    }
  }

  /** Asks it to end, kills it after `graceMs` if it has not, and waits for its end. */
  async stop(graceMs: number): Promise<void> {
    if (this.#hasExited) return;
    this.kill('SIGTERM');
    const late = setTimeout(() => this.kill('SIGKILL'), graceMs);
    try {
      await this.exited;
    } finally {
      clearTimeout(late);
    }
  }

  /** Gives it up: it goes on without this process, and disposing of this does nothing. */
  release(): void {
    this.#released = true;
    this.#stopWatching();
    this.#child.unref();
  }

  /** Kills it, unless it has ended or was released. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hasExited || this.#released) return;
    this.kill('SIGKILL');
    const waited = new AbortController();
    const late = delay(killWaitMs, undefined, { signal: waited.signal }).catch(() => undefined);
    await Promise.race([this.exited, late]);
    waited.abort();
  }

  #piped<T>(stream: T | null | undefined, what: string): T {
    if (stream) return stream;
    throw new CryoboxError('internal', `${this.command} was started without a pipe for its ${what}`);
  }

  #keepStderr(stream: Readable | null): void {
    stream?.on('data', (chunk: Buffer) => {
      this.#stderr = Buffer.concat([this.#stderr, chunk]).subarray(-keptStderrBytes);
    });
    stream?.on('error', () => undefined);
  }

  #watch({ timeoutMs, signal }: StartOptions): void {
    const stop = (): void => this.kill('SIGKILL');
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            this.#timedOut = true;
            stop();
          }, timeoutMs);
    signal?.addEventListener('abort', stop, { once: true });
    this.#stopWatching = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    };
  }
}
