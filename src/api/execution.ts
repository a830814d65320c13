import type { ByteSource, CallOptions } from './common.js';

/** A terminal's size in characters. */
export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** How a command is run. */
export interface ExecOptions extends CallOptions {
  /** Added to the environment of the box. */
  readonly env?: Readonly<Record<string, string>>;
  /** @default the box's working directory */
  readonly cwd?: string;
  /** Name, uid, or `user:group`. @default the box's user */
  readonly user?: string;
  /** The command and all its descendants are killed after this time. @default none */
  readonly timeoutMs?: number;
  /** Runs the command on a terminal; stderr is then part of stdout. @default false */
  readonly tty?: boolean | TerminalSize;
  /** Bytes for stdin, which is closed after them. @default empty */
  readonly stdin?: string | Uint8Array | ByteSource;
}

/** How a command that is not waited for is run. */
export interface StartExecOptions extends Omit<ExecOptions, 'stdin'> {
  /** Whether a writable stdin is kept open. @default false: the command reads an empty stdin */
  readonly stdin?: boolean;
}

/** How a command ended. */
export interface ExitStatus {
  /** Exit code, or null when a signal ended it. */
  readonly exitCode: number | null;
  /** Number of the signal that ended it, or null. */
  readonly signal: number | null;
  readonly timedOut: boolean;
  readonly durationMs: number;
}

/** How a command that was waited for ended, and what it wrote. */
export interface ExecResult extends ExitStatus {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** State of an execution. */
export type ExecutionStatus = 'running' | 'completed' | 'killed' | 'timed_out';

/** Facts about an execution; kept for five minutes after its end. */
export interface ExecutionInfo {
  readonly id: string;
  readonly boxId: string;
  readonly status: ExecutionStatus;
  readonly command: readonly string[];
  readonly exitCode: number | null;
  readonly signal: number | null;
  readonly startedAt: Date;
  readonly durationMs: number | null;
  /** Whether somebody reads its output now. */
  readonly attached: boolean;
  readonly tty: boolean;
  readonly errorMessage?: string;
}

/** The writable end of a command's stdin. */
export interface StdinWriter {
  /** Resolves when the bytes were taken; the command not reading makes it wait. */
  write(chunk: string | Uint8Array): Promise<void>;
  /** Closes stdin. */
  end(): Promise<void>;
}

/** A command that runs, or ran, in a box, with its streams attached. */
export interface Execution extends AsyncDisposable {
  readonly id: string;
  readonly boxId: string;
  /** Null when the execution was started without stdin. */
  readonly stdin: StdinWriter | null;
  /** Bytes as they come; not reading makes the command wait. Can be iterated once. */
  readonly stdout: ByteSource;
  /** Empty with a terminal. */
  readonly stderr: ByteSource;
  /** Output lost before this attach because nobody was attached and the backlog was full, in bytes. */
  readonly droppedBytes: { readonly stdout: number; readonly stderr: number };
  /** How it ended. Output may still be read afterwards. */
  wait(options?: CallOptions): Promise<ExitStatus>;
  /** Sends a signal, by number or name such as `SIGINT`, to the command's process group. */
  signal(signal: number | string): Promise<void>;
  /** Kills the command and every descendant. */
  kill(): Promise<void>;
  /** Changes the terminal's size; `invalid_state` without a terminal. */
  resize(size: TerminalSize): Promise<void>;
  /** Lets go of the streams; the command goes on and keeps its last output for a later attach. */
  detach(): Promise<void>;
}

/** Executions of a box by id. */
export interface Executions {
  list(options?: CallOptions): Promise<ExecutionInfo[]>;
  /** Null when there is none, or it ended more than five minutes ago. */
  get(id: string, options?: CallOptions): Promise<ExecutionInfo | null>;
  /**
   * Attaches to a running or ended execution; `conflict` when somebody else is attached. Its output begins with what
   * is still kept: the last 256 KiB of each stream, whoever has read them already; `droppedBytes` is what came before.
   */
  attach(id: string, options?: CallOptions & { readonly stdin?: boolean }): Promise<Execution>;
  /** Sends a signal, by number or name, to its process group, whoever is attached. `not_found` when there is none. */
  signal(id: string, signal: number | string, options?: CallOptions): Promise<void>;
  /** Kills it and every descendant, whoever is attached. One that has ended is left as it is. */
  kill(id: string, options?: CallOptions): Promise<void>;
  /** Changes its terminal's size, whoever is attached; `invalid_state` without a terminal. */
  resize(id: string, size: TerminalSize, options?: CallOptions): Promise<void>;
}
