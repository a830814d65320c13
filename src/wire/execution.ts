import type { ExecutionInfo, ExecutionStatus, ExitStatus, TerminalSize } from '../api/index.js';
import {
  asObject,
  compact,
  date,
  type JsonObject,
  number,
  numberOrNull,
  text,
  textOrNull,
  texts,
} from './json.js';

/** First byte of a binary frame from the server (v1 contract, section 1.6). */
export const channels = { stdout: 1, stderr: 2 } as const;

/**
 * Largest binary frame the server sends, channel byte included. v1 clients decode each frame by itself, and drop the
 * connection at 16 MiB (v1 contract, section 1.6).
 */
export const maxOutputFrameBytes = 64 * 1024;

/** Largest frame accepted on a WebSocket: what v1 clients may send as one write to stdin. */
export const maxInputFrameBytes = 16 * 1024 * 1024;

/** First message of the client on `GET {p}/boxes/{id}/exec`, our way to run a command in one connection. */
export interface ExecMessage {
  readonly type: 'exec';
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: string;
  readonly timeout_ms?: number;
  readonly tty?: boolean | TerminalSize;
  /** Whether stdin is kept open for binary messages. @default false */
  readonly stdin?: boolean;
  /** Kills the command when the connection ends before it. @default false */
  readonly kill_on_disconnect?: boolean;
  /** Whether the client says what it has got; what it has not is then sent again after a reattach. @default false */
  readonly ack?: boolean;
}

/** Bytes of one stream a client takes in before it says so; well below what the server keeps. */
export const ackEveryBytes = 64 * 1024;

/** Text messages of a client while a command runs (v1 contract, section 1.6). */
export type ClientMessage =
  | { readonly type: 'stdin_eof' }
  | { readonly type: 'resize'; readonly cols: number; readonly rows: number }
  | { readonly type: 'signal'; readonly sig: number }
  /** Ours: up to which offset each stream has arrived. */
  | { readonly type: 'ack'; readonly stdout: number; readonly stderr: number };

/** First text message of the server: which execution this is, and what was lost before. v1 clients ignore it. */
export interface AttachedMessage {
  readonly type: 'attached';
  readonly execution_id: string;
  readonly box_id: string;
  readonly stdin: boolean;
  readonly dropped_stdout: number;
  readonly dropped_stderr: number;
  /** Offset of the first byte that follows on each stream, from the command's first; `ack` and a reattach count so. */
  readonly stdout_at: number;
  readonly stderr_at: number;
  /** Names the count of `stdin_at`: a server that was restarted counts anew. */
  readonly stream_id: string;
  /** Bytes of stdin taken so far. */
  readonly stdin_at: number;
}

/** Text message of the server to a client that acknowledges: all bytes of stdin before this offset were taken. */
export interface StdinTakenMessage {
  readonly type: 'stdin_taken';
  readonly bytes: number;
}

/** How a command ended, as one number: v1 clients know nothing else. A signal N that ended it is -N (v1 contract, 1.6). */
export function exitCodeOf(exit: {
  readonly exitCode: number | null;
  readonly signal: number | null;
}): number | null {
  return exit.exitCode ?? (exit.signal === null ? null : -exit.signal);
}

/** Exit code for a command that succeeded while some of its output never reached a client that cannot tell. */
const outputLostExitCode = 125;

/** As one number, of a command whose output is not whole: v1 clients take 0 for a whole one. */
export function exitCodeOfCut(exit: { exitCode: number | null; signal: number | null }): number | null {
  return exit.exitCode === 0 ? outputLostExitCode : exitCodeOf(exit);
}

/** Last text message of the server. v1 clients read `exit_code` only. */
export function exitToJson(exit: ExitStatus): JsonObject {
  return {
    type: 'exit',
    exit_code: exitCodeOf(exit) ?? -1,
    signal: exit.signal,
    timed_out: exit.timedOut,
    duration_ms: Math.round(exit.durationMs),
  };
}

/** The inverse of {@link exitToJson}. */
export function exitFromJson(json: JsonObject): ExitStatus {
  const signal = numberOrNull(json, 'signal');
  return {
    exitCode: signal === null ? number(json, 'exit_code', -1) : null,
    signal,
    timedOut: json['timed_out'] === true,
    durationMs: number(json, 'duration_ms', 0),
  };
}

/** `ExecutionInfo` of the v1 contract, section 1.5, and ours. */
export function executionToJson(info: ExecutionInfo): JsonObject {
  const { stdout, stderr } = info.lostBytes;
  return compact({
    execution_id: info.id,
    box_id: info.boxId,
    status: info.status,
    exit_code: stdout + stderr === 0 ? exitCodeOf(info) : exitCodeOfCut(info),
    command_exit_code: info.exitCode,
    signal: info.signal,
    error_message: info.errorMessage,
    started_at: info.startedAt.toISOString(),
    duration_ms: info.durationMs === null ? null : Math.round(info.durationMs),
    command: info.command.join(' '),
    argv: info.command,
    attached: info.attached,
    tty: info.tty,
    pid: info.pid,
    lost_stdout: stdout,
    lost_stderr: stderr,
  });
}

/** The inverse of {@link executionToJson}. */
export function executionFromJson(value: unknown): ExecutionInfo {
  const json = asObject(value, 'execution');
  const signal = numberOrNull(json, 'signal');
  return compact({
    id: text(json, 'execution_id'),
    boxId: text(json, 'box_id'),
    status: text(json, 'status') as ExecutionStatus,
    command: texts(json, 'argv'),
    exitCode:
      signal === null ? (numberOrNull(json, 'command_exit_code') ?? numberOrNull(json, 'exit_code')) : null,
    signal,
    startedAt: date(json, 'started_at'),
    durationMs: numberOrNull(json, 'duration_ms'),
    attached: json['attached'] === true,
    tty: json['tty'] === true,
    pid: numberOrNull(json, 'pid'),
    lostBytes: { stdout: number(json, 'lost_stdout', 0), stderr: number(json, 'lost_stderr', 0) },
    errorMessage: textOrNull(json, 'error_message') ?? undefined,
  });
}
