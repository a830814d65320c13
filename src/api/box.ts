import type { CapabilityOptions, NetworkOptions, StageTimes, VolumeMount } from './box-options.js';
import type { ByteSource, CallOptions, RepeatableOptions } from './common.js';
import type { ExecOptions, ExecResult, Execution, Executions, StartExecOptions } from './execution.js';
import type { Files } from './files.js';
import type { BoxActivity, BoxStatus } from './operations.js';
import type { CloneOptions, ExportOptions, Snapshots } from './snapshots.js';

/** Facts about a box. */
export interface BoxInfo {
  readonly id: string;
  readonly name: string | null;
  readonly status: BoxStatus;
  /** What is under way, or null. */
  readonly operation: BoxActivity | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** Reference of its image; of a box from a template: that of the template's source. */
  readonly image: string;
  readonly template: string | null;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskSizeGb: number;
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly autoStop: number;
  readonly autoStopAction: 'stop' | 'pause';
  readonly autoDelete: number;
  readonly autoResume: boolean;
  readonly detach: boolean;
  readonly network: Required<NetworkOptions>;
  readonly capabilities: CapabilityOptions;
  readonly volumes: readonly VolumeMount[];
  /** Process id of its machine on the engine's host, or null. */
  readonly pid: number | null;
  /** A number that exists only in the box's memory: the same as long as it is the same run. Null when not running. */
  readonly run: string | null;
  /** Why it failed, with the console's last lines, or null. */
  readonly failure: string | null;
  /** How long the stages of its last start or resume took. */
  readonly stages: StageTimes;
  /** Bytes only this box holds on disk and, while paused, of memory. */
  readonly storage: { readonly diskBytes: number; readonly memoryBytes: number };
}

/** Counters and gauges of a box; a gauge is null when the box does not run. */
export interface BoxMetrics {
  readonly commandsExecutedTotal: number;
  readonly execErrorsTotal: number;
  readonly bytesSentTotal: number;
  readonly bytesReceivedTotal: number;
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
  readonly networkBytesSent: number | null;
  readonly networkBytesReceived: number | null;
  readonly diskUsedBytes: number | null;
  readonly uptimeMs: number | null;
  /** Milliseconds of each stage of the last start. */
  readonly stages: StageTimes;
}

/** Which way memory comes back after a resume. */
export type Pager = 'auto' | 'mmap' | 'uffd';

/** What a resume did. */
export interface ResumeResult {
  readonly pager: 'mmap' | 'uffd';
  /** False when the box was running. */
  readonly resumed: boolean;
  readonly stages: StageTimes;
}

/** One child of a fork, or why there is none. */
export type ForkResult = { readonly box: Box } | { readonly error: Error };

/** A byte stream to a TCP port inside a box. */
export interface PortConnection {
  readonly input: { write(chunk: Uint8Array): Promise<void>; end(): Promise<void> };
  readonly output: ByteSource;
  close(): Promise<void>;
}

/** One box. A handle: making or dropping it changes nothing; disposing of one from `create` without `detach` removes it. */
export interface Box extends AsyncDisposable {
  readonly id: string;
  readonly name: string | null;
  readonly files: Files;
  readonly executions: Executions;
  readonly snapshot: Snapshots;
  info(options?: CallOptions): Promise<BoxInfo>;
  metrics(options?: CallOptions): Promise<BoxMetrics>;
  /** Starts a box that does not run; a running one is left as it is. */
  start(options?: CallOptions & { readonly discardMemory?: boolean }): Promise<void>;
  /** Ends the box's processes in order, then its machine. A box that is stopped is left as it is. @default timeoutMs 10000 */
  stop(options?: CallOptions & { readonly timeoutMs?: number }): Promise<void>;
  /** Removes the box and what only it holds; `invalid_state` when it runs, unless forced. */
  remove(options?: CallOptions & { readonly force?: boolean }): Promise<void>;
  /** Runs a command and waits; `resource_exhausted` when it writes more than 64 MiB to one stream. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a command and gives its streams. */
  startExec(argv: readonly string[], options?: StartExecOptions): Promise<Execution>;
  clone(name?: string, options?: CloneOptions): Promise<Box>;
  /** Writes an archive; a directory gets `<name>.boxsnap` in it. Returns the path. */
  export(destination: string, options?: ExportOptions): Promise<string>;
  /** The archive as a stream. */
  exportStream(options?: ExportOptions): Promise<ByteSource>;
  pause(options?: CallOptions): Promise<void>;
  resume(options?: CallOptions & { readonly pager?: Pager }): Promise<ResumeResult>;
  /** 1 to 100 running children with the parent's processes. */
  fork(
    options: RepeatableOptions & {
      readonly count: number;
      readonly names?: readonly string[];
      readonly fromSnapshot?: string;
    },
  ): Promise<ForkResult[]>;
  /** Connects to a TCP port inside the box. */
  dial(port: number, options?: CallOptions): Promise<PortConnection>;
  /** The last lines of the machine's console. */
  consoleLog(options?: CallOptions): Promise<string>;
}
