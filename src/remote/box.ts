import { randomUUID } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import type {
  Box,
  BoxInfo,
  BoxMetrics,
  ByteSource,
  CallOptions,
  CloneOptions,
  Command,
  DialOptions,
  DiffOptions,
  DiskDiff,
  DiskLimits,
  ExecBytesOptions,
  ExecOptions,
  ExecResult,
  Execution,
  ExportOptions,
  ForkResult,
  LifetimeOptions,
  MainOutput,
  MetricsSeries,
  Pager,
  PortConnection,
  RepeatableOptions,
  ResumeResult,
  SeriesOptions,
  StartExecOptions,
  WaitForPortOptions,
} from '../api/index.js';
import { type AnyResult, execute, wordsOf } from '../surface/exec.js';
import { checkSince } from '../surface/since.js';
import { waitForPort } from '../surface/wait-for-port.js';
import { boxFromJson, boxMetricsFromJson } from '../wire/box.js';
import { diffFromJson, diffToQuery } from '../wire/diff.js';
import { diskLimitsToJson } from '../wire/disk-limits.js';
import { errorFromJson } from '../wire/error.js';
import { asObject, asObjects, compact, numberMap, text } from '../wire/json.js';
import { seriesFromJson } from '../wire/series.js';
import { saveArchive } from './archive-file.js';
import { RemoteExecution } from './execution.js';
import { RemoteExecutions } from './executions.js';
import { RemoteFiles } from './files.js';
import { RemoteNetwork } from './network.js';
import { connectPort } from './port.js';
import { RemotePorts } from './ports.js';
import { RemotePreviews } from './previews.js';
import { runCommand } from './run.js';
import { RemoteSecrets } from './secrets.js';
import { RemoteSnapshots } from './snapshots.js';
import { segment, type Transport } from './transport.js';

/** A box behind a server. */
export class RemoteBox implements Box {
  readonly id: string;
  readonly files: RemoteFiles;
  readonly executions: RemoteExecutions;
  readonly snapshot: RemoteSnapshots;
  readonly network: RemoteNetwork;
  readonly ports: RemotePorts;
  readonly previews: RemotePreviews;
  readonly secrets: RemoteSecrets;
  readonly #transport: Transport;
  readonly #path: string;
  /** Whether disposing of this handle removes the box. */
  readonly #owned: boolean;
  #name: string | null;

  readonly #onRemoved: (boxId: string) => void;

  /** `owned`: disposing of the handle removes the box. `onRemoved`: called when it was removed through this handle. */
  constructor(
    transport: Transport,
    info: Pick<BoxInfo, 'id' | 'name'>,
    owned = false,
    onRemoved: (boxId: string) => void = () => undefined,
  ) {
    this.#onRemoved = onRemoved;
    this.#transport = transport;
    this.id = info.id;
    this.#name = info.name;
    this.#owned = owned;
    this.#path = `/boxes/${segment(info.id)}`;
    this.files = new RemoteFiles(transport, this.#path);
    this.executions = new RemoteExecutions(transport, this.#path);
    this.snapshot = new RemoteSnapshots(transport, this.#path);
    this.network = new RemoteNetwork(transport, this.#path);
    this.ports = new RemotePorts(transport, this.#path);
    this.previews = new RemotePreviews(transport, this.#path);
    this.secrets = new RemoteSecrets(transport, this.#path);
  }

  get name(): string | null {
    return this.#name;
  }

  async info({ signal }: CallOptions = {}): Promise<BoxInfo> {
    return boxFromJson(await this.#transport.json({ method: 'GET', path: this.#path, signal }));
  }

  async metrics({ signal }: CallOptions = {}): Promise<BoxMetrics> {
    return boxMetricsFromJson(
      await this.#transport.json({ method: 'GET', path: `${this.#path}/metrics`, signal }),
    );
  }

  async metricsSeries({ since, signal }: SeriesOptions = {}): Promise<MetricsSeries> {
    checkSince(since);
    const query = { since: since?.toISOString() };
    const path = `${this.#path}/metrics/series`;
    return seriesFromJson(await this.#transport.json({ method: 'GET', path, query, signal }));
  }

  async start(options: CallOptions & { readonly discardMemory?: boolean } = {}): Promise<void> {
    await this.#change('start', { discard_memory: options.discardMemory }, options);
  }

  async stop(options: CallOptions & { readonly timeoutMs?: number } = {}): Promise<void> {
    const { timeoutMs } = options;
    await this.#change(
      'stop',
      { timeout_seconds: timeoutMs === undefined ? undefined : timeoutMs / 1000 },
      options,
    );
  }

  async rename(name: string, options: CallOptions = {}): Promise<void> {
    await this.#change('rename', { name }, options);
    this.#name = name;
  }

  async limitDisk(limits: DiskLimits, { signal }: CallOptions = {}): Promise<void> {
    const json = diskLimitsToJson(limits);
    await this.#transport.json({ method: 'PUT', path: `${this.#path}/disk_io`, json, signal });
  }

  async setLifetime(seconds: number, { action, extendOnly, signal }: LifetimeOptions = {}): Promise<void> {
    const json = compact({ seconds, action, extend_only: extendOnly });
    await this.#transport.empty({ method: 'PUT', path: `${this.#path}/lifetime`, json, signal });
  }

  async remove(options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { force, signal } = options;
    await this.#transport.empty({ method: 'DELETE', path: this.#path, query: { force }, signal });
    this.#onRemoved(this.id);
  }

  exec(command: Command, options: ExecBytesOptions): Promise<ExecResult<Buffer>>;
  exec(command: Command, options?: ExecOptions): Promise<ExecResult>;
  async exec(command: Command, options: ExecOptions | ExecBytesOptions = {}): Promise<AnyResult> {
    return await execute(command, options, (argv, run) => runCommand(this.#transport, this.#path, argv, run));
  }

  async startExec(command: Command, options: StartExecOptions = {}): Promise<Execution> {
    const start = {
      kind: 'run',
      argv: wordsOf(command),
      options,
      stdin: options.stdin ?? false,
      killOnDisconnect: false,
    } as const;
    return RemoteExecution.open(this.#transport, this.#path, start, options.signal);
  }

  async diff(options: DiffOptions = {}): Promise<DiskDiff> {
    const query = { ...diffToQuery(options, this.id) };
    const { signal } = options;
    return diffFromJson(
      await this.#transport.json({ method: 'GET', path: `${this.#path}/diff`, query, signal }),
    );
  }

  async clone(name?: string, options: CloneOptions = {}): Promise<Box> {
    const json = compact({
      name,
      cow: options.cow,
      from_snapshot: options.fromSnapshot,
      start_after_clone: options.startAfterClone,
    });
    const { signal } = options;
    const clone = await this.#transport.json({ method: 'POST', path: `${this.#path}/clone`, json, signal });
    return new RemoteBox(this.#transport, boxFromJson(clone));
  }

  async release({ signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'POST', path: `${this.#path}/release`, signal });
    this.#onRemoved(this.id);
  }

  async export(destination: string, options: ExportOptions = {}): Promise<string> {
    const bytes = await this.exportStream(options);
    return saveArchive(bytes, destination, this.name ?? this.id, (doneBytes) =>
      options.onProgress?.({ stage: 'export', doneBytes }),
    );
  }

  exportStream(options: ExportOptions = {}): Promise<ByteSource> {
    const json = compact({
      compress: options.compress,
      compression_level: options.compressionLevel,
      include_metadata: options.includeMetadata,
      env: options.env,
      memory: options.memory,
    });
    return this.#transport.bytes({
      method: 'POST',
      path: `${this.#path}/export`,
      json,
      signal: options.signal,
    });
  }

  async pause(options: CallOptions = {}): Promise<void> {
    await this.#change('pause', undefined, options);
  }

  async resume(options: CallOptions & { readonly pager?: Pager } = {}): Promise<ResumeResult> {
    const answer = asObject(await this.#change('resume', { pager: options.pager }, options));
    const result = asObject(answer['resume'], 'resume');
    return {
      pager: text(result, 'pager') as ResumeResult['pager'],
      resumed: result['resumed'] === true,
      stages: numberMap(result, 'stages'),
    };
  }

  async fork(
    options: RepeatableOptions & {
      readonly count: number;
      readonly names?: readonly string[];
      readonly fromSnapshot?: string;
    },
  ): Promise<ForkResult[]> {
    const answer = await this.#transport.json({
      method: 'POST',
      path: `${this.#path}/fork`,
      json: compact({ count: options.count, names: options.names, from_snapshot: options.fromSnapshot }),
      signal: options.signal,
      idempotencyKey: options.operationId ?? randomUUID(),
    });
    return asObjects(asObject(answer)['forks'], 'forks').map((fork) =>
      fork['box'] === undefined
        ? { error: errorFromJson(asObject(fork['error'], 'error'), 500) }
        : { box: new RemoteBox(this.#transport, boxFromJson(fork['box'])) },
    );
  }

  dial(port: number, options: DialOptions = {}): Promise<PortConnection> {
    return connectPort(this.#transport, this.#path, port, options);
  }

  async mainOutput({ signal }: CallOptions = {}): Promise<MainOutput> {
    const read = async (output: string): Promise<Buffer> => {
      const asked = { method: 'GET', path: `${this.#path}/logs`, query: { output }, signal } as const;
      return await buffer(await this.#transport.bytes(asked));
    };
    const [stdout, stderr] = await Promise.all([read('stdout'), read('stderr')]);
    return { stdout, stderr };
  }

  async waitForPort(port: number, options: WaitForPortOptions = {}): Promise<void> {
    await waitForPort(this, port, options);
  }

  async consoleLog({ signal }: CallOptions = {}): Promise<string> {
    const answer = await this.#transport.json({ method: 'GET', path: `${this.#path}/console`, signal });
    return text(asObject(answer), 'console');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#owned) await this.remove({ force: true });
  }

  #change(verb: string, json: object | undefined, { signal }: CallOptions): Promise<unknown> {
    const body = json === undefined ? undefined : compact(json);
    return this.#transport.json({ method: 'POST', path: `${this.#path}/${verb}`, json: body, signal });
  }
}
