import type { Readable, Writable } from 'node:stream';
import type { Progress, Runtime } from '../api/index.js';
import type { Interrupts } from './interrupts.js';
import { ProgressDisplay } from './output/progress.js';
import { OutputStream } from './output/stream.js';

/** Whose boxes a command is about: a home on this host, or a server. */
export interface Connection {
  readonly home?: string;
  readonly url?: string;
  readonly prefix?: string;
  readonly apiKey?: string;
}

/** The standard streams, or what stands for them. */
export interface Streams {
  readonly stdin: Readable & {
    readonly isTTY?: boolean;
    readonly fd?: number;
    setRawMode?(raw: boolean): unknown;
  };
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };
}

/** Opens the runtime of a connection. */
export type OpenRuntime = (connection: Connection) => Promise<Runtime>;

/** What a handler works with. */
export class Context {
  readonly connection: Connection;
  readonly streams: Streams;
  /** Data only. */
  readonly stdout: OutputStream;
  /** Chatter and progress, and the stderr of commands in a box. */
  readonly stderr: OutputStream;
  readonly interrupts: Interrupts;
  readonly #open: OpenRuntime;
  #runtime: Promise<Runtime> | undefined;

  constructor(options: {
    readonly connection: Connection;
    readonly streams: Streams;
    readonly interrupts: Interrupts;
    readonly openRuntime: OpenRuntime;
  }) {
    this.connection = options.connection;
    this.streams = options.streams;
    this.stdout = new OutputStream(options.streams.stdout);
    this.stderr = new OutputStream(options.streams.stderr);
    this.interrupts = options.interrupts;
    this.#open = options.openRuntime;
  }

  /** Aborted by Ctrl-C: goes into every call. */
  get signal(): AbortSignal {
    return this.interrupts.signal;
  }

  /** The runtime, opened at the first use. */
  runtime(): Promise<Runtime> {
    this.#runtime ??= this.#open(this.connection);
    return this.#runtime;
  }

  /** Runs a long call with its progress shown on stderr. */
  async withProgress<T>(task: (onProgress: (progress: Progress) => void) => Promise<T>): Promise<T> {
    const display = new ProgressDisplay(this.streams.stderr);
    try {
      return await task(display.report);
    } finally {
      display.end();
    }
  }

  /** Lets go of the runtime. */
  async close(): Promise<void> {
    const runtime = await this.#runtime?.catch(() => undefined);
    await runtime?.close();
  }
}
