import type { ByteInput, ByteSource, Bytes, CallOptions } from './common.js';

/** A terminal's size in characters. */
export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** A command: a list of words is run as it is, a text as a line typed into a shell (`sh -c`). */
export type Command = string | readonly string[];

/** A signal, by its number or by its name, with or without `SIG`. */
export type Signal = number | NodeJS.Signals | (string & {});

/** How a command is run. */
interface RunOptions extends CallOptions {
  /** Added to the environment of the box. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** @default the box's working directory */
  readonly cwd?: string | undefined;
  /** Name, uid, or `user:group`. @default the box's user */
  readonly user?: string | undefined;
  /** The command and all its descendants are killed after this time. @default none */
  readonly timeoutMs?: number | undefined;
  /** Runs the command on a terminal; stderr is then part of stdout. @default false */
  readonly tty?: boolean | TerminalSize | undefined;
}

/** What `exec` does beside running a command. */
interface WaitedRunOptions extends RunOptions {
  /** Bytes for stdin, which is closed after them. @default empty */
  readonly stdin?: ByteInput | undefined;
  /**
   * Throws `execution_failed` unless the command ends with 0; `details` has `exitCode`, `signal`, `timedOut`, and the last
   * 64 KiB of `stdout` and `stderr`. @default false
   */
  readonly check?: boolean | undefined;
}

/** How a command that is waited for is run; what it writes is read as UTF-8. */
export interface ExecOptions extends WaitedRunOptions {
  /** `buffer`: stdout and stderr are bytes ({@link ExecBytesOptions}). @default 'utf8' */
  readonly encoding?: 'utf8' | undefined;
  /** Gets stdout as it comes, in pieces that end between characters; the result has all of it too. Awaited. */
  readonly onStdout?: ((text: string) => unknown) | undefined;
  /** Gets stderr as it comes. When a callback throws, the command is ended and `cancelled` thrown. */
  readonly onStderr?: ((text: string) => unknown) | undefined;
}

/** How a command that is waited for is run, when what it writes is no text. */
export interface ExecBytesOptions extends WaitedRunOptions {
  readonly encoding: 'buffer';
  /** Gets stdout as it comes; the result has all of it too. */
  readonly onStdout?: ((chunk: Uint8Array) => unknown) | undefined;
  /** Gets stderr as it comes. */
  readonly onStderr?: ((chunk: Uint8Array) => unknown) | undefined;
}

/** How a command that is not waited for is run. */
export interface StartExecOptions extends RunOptions {
  /** Whether a writable stdin is kept open. @default false: the command reads an empty stdin */
  readonly stdin?: boolean | undefined;
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

/** How a command that was waited for ended, and what it wrote: text, or with `encoding: 'buffer'` bytes. */
export interface ExecResult<Output extends string | Buffer = string> extends ExitStatus {
  readonly stdout: Output;
  readonly stderr: Output;
}

/** Id of the execution that is the main command of its box. Kept, with its output, as long as the box runs. */
export const mainExecution = 'main';

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
  /** Its process id in the box; null from a server that does not tell. */
  readonly pid: number | null;
  /** Output that nobody took and that is kept no more, in bytes. */
  readonly lostBytes: { readonly stdout: number; readonly stderr: number };
  /** What went wrong beside the command itself, such as lost output. */
  readonly errorMessage?: string;
}

/** The writable end of a command's stdin. */
export interface StdinWriter {
  /** Resolves when the bytes were taken; the command not reading makes it wait. */
  write(chunk: Bytes): Promise<void>;
  /** Closes stdin. */
  end(): Promise<void>;
}

/** One output of a command, which can be read once: its bytes, or its lines. */
export interface Output extends ByteSource {
  /**
   * Lines as UTF-8, without their ends (LF, or CR LF of a terminal); the last one also when it has none.
   * `resource_exhausted` for a line of more than 16 Mi characters.
   */
  lines(): AsyncGenerator<string>;
}

/** A command that runs, or ran, in a box, with its streams attached. */
export interface Execution extends AsyncDisposable {
  readonly id: string;
  readonly boxId: string;
  /** Null when the execution was started without stdin. */
  readonly stdin: StdinWriter | null;
  /**
   * Bytes as they come, or its `lines()`; not reading makes the command wait. Can be iterated once. Throws `output_lost` where bytes are
   * missing in the middle, as after an engine that died under it: the command goes on, and `wait` tells its end.
   */
  readonly stdout: Output;
  /** Empty with a terminal. */
  readonly stderr: Output;
  /**
   * Both in the order in which they come; instead of the two, not beside them. What a command writes to both at the same
   * moment has no order: where that matters, give it a terminal, or run a line with `2>&1`.
   */
  readonly all: Output;
  /**
   * Output lost because nobody was attached and the backlog was full, in bytes: before this attach, and in the holes
   * after which `stdout` or `stderr` threw `output_lost`.
   */
  readonly droppedBytes: { readonly stdout: number; readonly stderr: number };
  /** How it ended. Output may still be read afterwards. */
  wait(options?: CallOptions): Promise<ExitStatus>;
  /** Sends a signal, by number or name such as `SIGINT`, to the command's process group. */
  signal(signal: Signal): Promise<void>;
  /** Kills the command and every descendant. */
  kill(): Promise<void>;
  /** Changes the terminal's size; `invalid_state` without a terminal. */
  resize(size: TerminalSize): Promise<void>;
  /** Lets go of the streams; the command goes on and keeps its last output for a later attach. */
  detach(): Promise<void>;
}

/** Which part of an output is wanted: offsets in bytes, counted from the first that the command wrote. */
export interface OutputOptions extends CallOptions {
  /** @default the first byte that is kept */
  readonly stdoutAt?: number | undefined;
  readonly stderrAt?: number | undefined;
}

/** What is kept of the output of a command. */
export interface ExecutionOutput {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Offset of the first byte of `stdout`: larger than the one asked for where bytes between are kept no more. */
  readonly stdoutAt: number;
  readonly stderrAt: number;
}

/** Executions of a box by id. */
export interface Executions {
  /** Those that run, and those that ended less than five minutes ago. */
  list(options?: CallOptions): Promise<ExecutionInfo[]>;
  /** Null when there is none, or it ended more than five minutes ago. */
  get(id: string, options?: CallOptions): Promise<ExecutionInfo | null>;
  /**
   * Attaches to a running or ended execution; `conflict` when somebody else is attached. Its output begins with what
   * is still kept: the last 256 KiB of each stream, whoever has read them already; `droppedBytes` is what came before.
   */
  attach(id: string, options?: CallOptions & { readonly stdin?: boolean }): Promise<Execution>;
  /**
   * What is kept of its output, the last 256 KiB of each stream, whoever is attached; takes nothing away. `not_found` when
   * there is none.
   */
  output(id: string, options?: OutputOptions): Promise<ExecutionOutput>;
  /** Sends a signal, by number or name, to its process group, whoever is attached. `not_found` when there is none. */
  signal(id: string, signal: Signal, options?: CallOptions): Promise<void>;
  /** Kills it and every descendant, whoever is attached. One that has ended is left as it is. */
  kill(id: string, options?: CallOptions): Promise<void>;
  /** Changes its terminal's size, whoever is attached; `invalid_state` without a terminal. */
  resize(id: string, size: TerminalSize, options?: CallOptions): Promise<void>;
}
