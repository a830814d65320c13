import type { Duplex } from 'node:stream';
import type {
  CapabilityOptions,
  DiskLimits,
  LifetimeAction,
  NetworkInfo,
  NetworkOptions,
  NetworkSettings,
  StageTimes,
  VolumeMount,
} from './box-options.js';
import type { ByteSource, CallOptions, RepeatableOptions } from './common.js';
import type { DiffOptions, DiskDiff } from './diff.js';
import type {
  Command,
  ExecBytesOptions,
  ExecOptions,
  ExecResult,
  Execution,
  Executions,
  StartExecOptions,
} from './execution.js';
import type { Files } from './files.js';
import type { BoxActivity, BoxStatus } from './operations.js';
import type { BoxPorts, PublishedPort } from './ports.js';
import type { BoxPreviews, PreviewAccess } from './previews.js';
import type { BoxSecrets } from './secrets.js';
import type { CloneOptions, ExportOptions, Snapshots } from './snapshots.js';

/** The main command of a box: the execution {@link mainExecution} of a box that runs. */
export interface MainInfo {
  readonly command: readonly string[];
  readonly tty: boolean;
  /** Of its last run: null while it runs, and when a signal ended it. */
  readonly exitCode: number | null;
  /** The signal that ended it, or null. */
  readonly signal: number | null;
}

/** What the main command of a box has written: the last 256 KiB of each stream. */
export interface MainOutput {
  readonly stdout: Buffer;
  /** Empty with a terminal. */
  readonly stderr: Buffer;
}

/**
 * Where the state of a box is safe. `local`: on this host only, as that of each box that runs, has volumes, or of a home
 * that is not replicated. `replicating`: it stands still, and is being copied. `replicated`: all that it comes back from is in
 * the object store.
 */
export const durabilities = ['local', 'replicating', 'replicated'] as const;

/** Where the state of a box is safe: {@link durabilities}. */
export type Durability = (typeof durabilities)[number];

/** Facts about a box. */
export interface BoxInfo {
  readonly id: string;
  readonly name: string | null;
  readonly status: BoxStatus;
  /** What is under way, or null. */
  readonly operation: BoxActivity | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** When it was last used: a command, a copy, a connection, or any change of its state. */
  readonly lastActivityAt: Date;
  /** Its image by the name it was asked for; of a box from a template: that of the template's source. */
  readonly image: string;
  readonly template: string | null;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskSizeGb: number;
  readonly env: Readonly<Record<string, string>>;
  /** Names of variables that the box of an archive was given and this one was not: archives leave their values out. */
  readonly missingEnv: readonly string[];
  /** Host name, from its next start on. */
  readonly hostname: string;
  readonly workingDir: string;
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** The command that runs at every start, or null: the box idles. */
  readonly main: MainInfo | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly autoStop: number;
  readonly autoStopAction: 'stop' | 'pause';
  readonly autoDelete: number;
  /** Seconds that each run lasts at most; 0: without end. */
  readonly lifetime: number;
  readonly lifetimeAction: LifetimeAction;
  /** When this run ends by itself at the latest; null when it has no end, or the box does not run. */
  readonly endsAt: Date | null;
  readonly autoResume: boolean;
  readonly detach: boolean;
  readonly network: NetworkSettings;
  /** Empty: its disks are not limited. */
  readonly diskLimits: DiskLimits;
  readonly capabilities: CapabilityOptions;
  readonly volumes: readonly VolumeMount[];
  readonly ports: readonly PublishedPort[];
  /** Process id of its machine on the engine's host, or null. */
  readonly pid: number | null;
  /** A number that exists only in the box's memory: the same as long as it is the same run. Null when not running. */
  readonly run: string | null;
  /** Why it failed, with the console's last lines, or null. */
  readonly failure: string | null;
  /** How long the stages of its last start or resume took. */
  readonly stages: StageTimes;
  /** Where its present state is safe; never ahead of what is so. */
  readonly durability: Durability;
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

/** What a box used at a moment. Bytes of the network count from the guest's boot, without the loopback. */
export interface MetricsPoint {
  readonly at: Date;
  /** Share of its processors that its machine used since the point before, as the host counts it; 0 in the first of a run. */
  readonly cpuPercent: number;
  readonly memoryBytes: number;
  readonly diskUsedBytes: number;
  readonly networkBytesSent: number;
  readonly networkBytesReceived: number;
}

/** What a box used over the last hour, oldest first. There are no points of when it did not run. */
export interface MetricsSeries {
  /** Time between two points of a box that runs. */
  readonly intervalMs: number;
  readonly points: readonly MetricsPoint[];
}

/** Which points of a series. */
export interface SeriesOptions extends CallOptions {
  /** Only points later than this. @default all of the last hour */
  readonly since?: Date | undefined;
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

/** How a port of a box is connected to. `signal` cancels the connecting; what is connected is ended by `destroy()`. */
export interface DialOptions extends CallOptions {
  /** Whether a box that does not run is brought up, when its `autoResume` allows. @default true */
  readonly wake?: boolean | undefined;
  /** False: once the box sends no more, our direction ends too, as of a socket of Node; agents of `http` want that. @default true */
  readonly allowHalfOpen?: boolean | undefined;
}

/**
 * A connection to a TCP port inside a box: a Duplex of Node, for `pipeline`, `http.request({ createConnection })`,
 * `tls.connect({ socket })`. When the box goes, it emits `error` with a CryoboxError; so it does when the program in the box
 * takes no more bytes, after what it answered was read. A program that is killed ends its direction.
 */
export interface PortConnection extends Duplex {
  /** What is sent, by promises. */
  readonly input: {
    /** Sends bytes; resolves when there is room for more. */
    write(chunk: Uint8Array): Promise<void>;
    /** Says that no more bytes come; those of the other side still do. */
    end(): Promise<void>;
  };
  /** What is received. Leaving the loop leaves the connection open. */
  readonly output: ByteSource;
  /** Ends both directions at once. */
  close(): Promise<void>;
  /** Emits `timeout` when no byte has come or gone for so many milliseconds; 0: never. */
  setTimeout(ms: number, listener?: () => void): this;
  /** As of a socket; without effect. */
  setKeepAlive(on?: boolean, initialDelayMs?: number): this;
  /** As of a socket; without effect. */
  setNoDelay(on?: boolean): this;
  /** The connection keeps the process alive, as it does at first. */
  ref(): this;
  /** The connection does not keep the process alive. */
  unref(): this;
}

/** How long a port is waited for. */
export interface WaitForPortOptions extends CallOptions {
  /** @default 30000 */
  readonly timeoutMs?: number | undefined;
}

/** How a lifetime is set. */
export interface LifetimeOptions extends CallOptions {
  /** @default what it was */
  readonly action?: LifetimeAction | undefined;
  /** Leaves a run that would end later as it is, and the lifetime with it. @default false */
  readonly extendOnly?: boolean | undefined;
}

/** The network of a box. */
export interface BoxNetwork {
  /** Its lists, and what its gateway let through and refused since that started. */
  info(options?: CallOptions): Promise<NetworkInfo>;
  /**
   * Replaces the lists and `outbound`: what is left out has its default. In a running box it holds when this resolves, and
   * connections that are no longer allowed are reset. `invalid_argument` for a wrong rule, `invalid_state` for a running box
   * that was started without lists, or a paused one whose network is closed.
   */
  update(options: NetworkOptions & CallOptions): Promise<NetworkInfo>;
  /**
   * Makes the ports of the box public, or private again, which cuts off what goes through the public addresses. It is no
   * part of forks, clones, templates and archives: those are private.
   */
  setInbound(access: PreviewAccess, options?: CallOptions): Promise<NetworkInfo>;
}

/** One box. A handle: making or dropping it changes nothing; disposing of one from `create` without `detach` removes it. */
export interface Box extends AsyncDisposable {
  readonly id: string;
  /** As it was when the handle was made, or renamed by it. */
  readonly name: string | null;
  readonly files: Files;
  readonly executions: Executions;
  readonly snapshot: Snapshots;
  readonly network: BoxNetwork;
  readonly ports: BoxPorts;
  readonly previews: BoxPreviews;
  /** Secrets that it uses and never has. */
  readonly secrets: BoxSecrets;
  /** The box as it is now; `not_found` when it was removed. */
  info(options?: CallOptions): Promise<BoxInfo>;
  /** What it uses and has done. */
  metrics(options?: CallOptions): Promise<BoxMetrics>;
  /**
   * What it used over the last hour. Points are kept through pauses, stops and rollbacks, and begin anew with the engine.
   * Throws `invalid_argument` for a `since` that is no time.
   */
  metricsSeries(options?: SeriesOptions): Promise<MetricsSeries>;
  /** Starts a box that does not run; a running one is left as it is. */
  start(options?: CallOptions & { readonly discardMemory?: boolean }): Promise<void>;
  /** Ends the box's processes in order, then its machine. A box that is stopped is left as it is. @default timeoutMs 10000 */
  stop(options?: CallOptions & { readonly timeoutMs?: number }): Promise<void>;
  /**
   * Gives the box another name: `invalid_argument` for a bad one, `already_exists`. The host name of a box that runs stays
   * until its next start.
   */
  rename(name: string, options?: CallOptions): Promise<void>;
  /**
   * Replaces the limits of the box's disks: what is left out is not limited any more, and `{}` lifts all. In a running box
   * they hold when this resolves. `invalid_argument` for one that is out of range.
   */
  limitDisk(limits: DiskLimits, options?: CallOptions): Promise<void>;
  /**
   * Lets each run of the box last that many seconds, 0 to 31536000; 0: without end. A run that is under way lasts as long
   * from now on. `invalid_argument` for a number out of range.
   */
  setLifetime(seconds: number, options?: LifetimeOptions): Promise<void>;
  /** Removes the box and what only it holds; `invalid_state` when it runs, unless forced. */
  remove(options?: CallOptions & { readonly force?: boolean }): Promise<void>;
  /**
   * Runs a command and waits; `resource_exhausted` when it writes more than 64 MiB to one stream, `output_lost` after its
   * end when an engine died under it and some of its output is gone.
   */
  exec(command: Command, options: ExecBytesOptions): Promise<ExecResult<Buffer>>;
  /** As above, with the output as text: bytes that are no UTF-8 become U+FFFD. */
  exec(command: Command, options?: ExecOptions): Promise<ExecResult>;
  /** Starts a command and gives its streams. */
  startExec(command: Command, options?: StartExecOptions): Promise<Execution>;
  /** Makes a stopped box with the disks of this one, as they are or as a snapshot has them; its memory is left out. */
  clone(name?: string, options?: CloneOptions): Promise<Box>;
  /**
   * Takes a stopped or paused box out of its home, with its snapshots, and offers it to other homes in the store that
   * this one is replicated to: `Runtime.adopt` brings it into one. It is copied first, and is as before when that fails.
   * Volumes, previews, published ports and values of secrets do not go with it. `invalid_state` for one that runs or has
   * volumes, and when the home is not replicated; `upstream_unavailable`.
   */
  release(options?: CallOptions): Promise<void>;
  /**
   * The files that differ between two states of disks, read from their layers: no machine is started. Volumes are left out.
   * `invalid_state` for a box as it is while it runs: take a snapshot, and compare that; `invalid_argument` for states of boxes
   * of different images; `disk_image_invalid` for a file system that is damaged or not understood.
   */
  diff(options?: DiffOptions): Promise<DiskDiff>;
  /** Writes an archive; a directory gets `<name>.boxsnap` in it. Returns the path. */
  export(destination: string, options?: ExportOptions): Promise<string>;
  /** The archive as a stream. */
  exportStream(options?: ExportOptions): Promise<ByteSource>;
  /**
   * Writes its memory down and ends its machine: processes go on at the next resume. A paused box is left as it is;
   * `invalid_state` for one that does not run, `disk_full` when the memory has no room, the box runs on then.
   */
  pause(options?: CallOptions): Promise<void>;
  /** Brings a paused box back with its processes; one that runs is left as it is. @default pager 'auto' */
  resume(options?: CallOptions & { readonly pager?: Pager }): Promise<ResumeResult>;
  /** 1 to 100 running children with the parent's processes. */
  fork(
    options: RepeatableOptions & {
      readonly count: number;
      readonly names?: readonly string[];
      readonly fromSnapshot?: string;
    },
  ): Promise<ForkResult[]>;
  /**
   * Connects to a TCP port inside the box, on 127.0.0.1 or, when nobody listens there, on ::1. A box that does not run is
   * brought up when its `autoResume` allows, unless `wake` is false: `stopped` then. @default wake true
   */
  dial(port: number, options?: DialOptions): Promise<PortConnection>;
  /**
   * What the main command wrote since the last start; of a box that does not run, what it wrote until its stop or pause.
   * Lost with a machine that dies. `invalid_state` when the box has no main command.
   */
  mainOutput(options?: CallOptions): Promise<MainOutput>;
  /** Waits until a TCP port takes connections, as {@link Box.dial} makes them. `timeout` when none does in time. */
  waitForPort(port: number, options?: WaitForPortOptions): Promise<void>;
  /** The last lines of the machine's console. */
  consoleLog(options?: CallOptions): Promise<string>;
}
