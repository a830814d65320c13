import type {
  AdoptOptions,
  Box,
  BoxListOptions,
  BoxNetwork,
  BoxPorts,
  BoxPreviews,
  BoxSecrets,
  BuildOptions,
  CallOptions,
  CloneOptions,
  CopyOptions,
  CreateOptions,
  DialOptions,
  DiffOptions,
  DockerfileBuildOptions,
  EventsOptions,
  ExecBytesOptions,
  ExecOptions,
  Executions,
  ExportOptions,
  Files,
  Images,
  ImportOptions,
  LifetimeOptions,
  NetworkOptions,
  OutputOptions,
  PackOptions,
  PreviewOptions,
  ProgressOptions,
  PublishOptions,
  PullOptions,
  ReadOptions,
  RemoveImageOptions,
  RepeatableOptions,
  Runtime,
  SecretChange,
  SeriesOptions,
  SnapshotCreateOptions,
  Snapshots,
  StartExecOptions,
  TemplateOptions,
  Templates,
  Volumes,
  WaitForPortOptions,
  WatchOptions,
} from '../api/index.js';
import type { OptionNames } from '../base/check-options.js';

/** Where a method takes its options, and which; `given`: they must be there. */
export interface Rule {
  readonly at: number;
  readonly names: Readonly<Record<string, true>>;
  readonly given: boolean;
}

/** The options of a method, whose names the type checks: none is forgotten, none is too many. */
type Given<Method, At extends number> = Method extends (...args: infer Args) => unknown
  ? NonNullable<Args[At]>
  : never;

function rule<Options>(at: number, names: OptionNames<Options>, given = false): Rule {
  return { at, names, given };
}

const call: OptionNames<CallOptions> = { signal: true };
const callAt = (at: number): Rule => rule<CallOptions>(at, call);
const progress: OptionNames<ProgressOptions> = { ...call, onProgress: true };
const repeatable: OptionNames<RepeatableOptions> = { ...call, operationId: true };
const copy: OptionNames<CopyOptions> = { ...progress, overwrite: true, followSymlinks: true };
const run: OptionNames<StartExecOptions> = {
  ...call,
  env: true,
  cwd: true,
  user: true,
  timeoutMs: true,
  tty: true,
  stdin: true,
};
const exec: OptionNames<ExecOptions & ExecBytesOptions> = {
  ...run,
  encoding: true,
  onStdout: true,
  onStderr: true,
  check: true,
};
const create: OptionNames<CreateOptions> = {
  ...progress,
  ...repeatable,
  image: true,
  platform: true,
  template: true,
  name: true,
  hostname: true,
  cpus: true,
  memoryMiB: true,
  diskSizeGb: true,
  env: true,
  workingDir: true,
  user: true,
  entrypoint: true,
  cmd: true,
  tty: true,
  labels: true,
  autoStop: true,
  autoStopAction: true,
  autoDelete: true,
  lifetime: true,
  lifetimeAction: true,
  autoResume: true,
  detach: true,
  network: true,
  diskLimits: true,
  capabilities: true,
  volumes: true,
  ports: true,
  secrets: true,
};
const exported: OptionNames<ExportOptions> = {
  ...progress,
  compress: true,
  compressionLevel: true,
  includeMetadata: true,
  env: true,
  memory: true,
};

const build: OptionNames<BuildOptions & DockerfileBuildOptions> = {
  ...progress,
  fromDebian: true,
  packages: true,
  recipe: true,
  context: true,
  dockerfile: true,
  dockerfileText: true,
  buildArgs: true,
  target: true,
  noCache: true,
  cpus: true,
  memoryMiB: true,
};

/** Every method has a rule, but what ends a handle. */
type Rules<T> = {
  readonly [Name in keyof T as Name extends 'close' | symbol
    ? never
    : T[Name] extends (...args: never[]) => unknown
      ? Name
      : never]: Rule;
};

const ofRuntime: Rules<Runtime> = {
  create: rule<CreateOptions>(0, create, true),
  getOrCreate: rule<CreateOptions>(1, create, true),
  get: callAt(1),
  list: rule<BoxListOptions>(0, { ...call, status: true, after: true, limit: true }),
  remove: rule<Given<Runtime['remove'], 1>>(1, { ...call, force: true }),
  import: rule<ImportOptions>(1, { ...progress, ...repeatable, name: true, memory: true, env: true }),
  metrics: callAt(0),
  adopt: rule<AdoptOptions>(1, { ...call, box: true, name: true }),
  tree: callAt(0),
  events: rule<EventsOptions>(0, { ...call, since: true }),
  gc: rule<Given<Runtime['gc'], 0>>(0, { ...call, dryRun: true }),
  verify: rule<ProgressOptions>(0, progress),
};

const ofBox: Rules<Box> = {
  info: callAt(0),
  metrics: callAt(0),
  metricsSeries: rule<SeriesOptions>(0, { ...call, since: true }),
  start: rule<Given<Box['start'], 0>>(0, { ...call, discardMemory: true }),
  stop: rule<Given<Box['stop'], 0>>(0, { ...call, timeoutMs: true }),
  rename: callAt(1),
  limitDisk: callAt(1),
  setLifetime: rule<LifetimeOptions>(1, { ...call, action: true, extendOnly: true }),
  remove: rule<Given<Box['remove'], 0>>(0, { ...call, force: true }),
  exec: rule<ExecOptions & ExecBytesOptions>(1, exec),
  startExec: rule<StartExecOptions>(1, run),
  diff: rule<DiffOptions>(0, { ...call, from: true, to: true, after: true, limit: true }),
  clone: rule<CloneOptions>(1, { ...call, cow: true, startAfterClone: true, fromSnapshot: true }),
  release: callAt(0),
  export: rule<ExportOptions>(1, exported),
  exportStream: rule<ExportOptions>(0, exported),
  pause: callAt(0),
  resume: rule<Given<Box['resume'], 0>>(0, { ...call, pager: true }),
  fork: rule<Given<Box['fork'], 0>>(0, { ...repeatable, count: true, names: true, fromSnapshot: true }, true),
  dial: rule<DialOptions>(1, { ...call, wake: true, allowHalfOpen: true }),
  mainOutput: callAt(0),
  waitForPort: rule<WaitForPortOptions>(1, { ...call, timeoutMs: true }),
  consoleLog: callAt(0),
};

const ofFiles: Rules<Files> = {
  copyIn: rule<CopyOptions>(2, copy),
  copyOut: rule<CopyOptions>(2, copy),
  unpack: rule<CopyOptions>(2, copy),
  pack: rule<PackOptions>(1, { ...call, followSymlinks: true, named: true }),
  read: callAt(1),
  readStream: rule<ReadOptions>(1, { ...call, offsetBytes: true, lengthBytes: true }),
  write: rule<Given<Files['write'], 2>>(2, { ...call, mode: true, owner: true }),
  list: callAt(1),
  stat: callAt(1),
  makeDirectory: rule<Given<Files['makeDirectory'], 1>>(1, { ...call, owner: true }),
  remove: rule<Given<Files['remove'], 1>>(1, { ...call, recursive: true }),
  rename: rule<Given<Files['rename'], 2>>(2, { ...call, overwrite: true }),
  watch: rule<WatchOptions>(1, { ...call, recursive: true }),
};

const ofExecutions: Rules<Executions> = {
  list: callAt(0),
  get: callAt(1),
  attach: rule<Given<Executions['attach'], 1>>(1, { ...call, stdin: true }),
  output: rule<OutputOptions>(1, { ...call, stdoutAt: true, stderrAt: true }),
  signal: callAt(2),
  kill: callAt(1),
  resize: callAt(2),
};

const ofNetwork: Rules<BoxNetwork> = {
  info: callAt(0),
  update: rule<NetworkOptions & CallOptions>(
    0,
    { ...call, outbound: true, allowNet: true, denyNet: true, rateLimit: true },
    true,
  ),
  setInbound: callAt(1),
};

const ofPorts: Rules<BoxPorts> = {
  list: callAt(0),
  publish: rule<PublishOptions & CallOptions>(
    0,
    { ...call, guestPort: true, hostPort: true, hostIp: true },
    true,
  ),
  unpublish: rule<Given<BoxPorts['unpublish'], 1>>(1, { ...call, hostIp: true }),
};

const ofPreviews: Rules<BoxPreviews> = {
  list: callAt(0),
  create: rule<PreviewOptions & CallOptions>(0, { ...call, port: true, access: true }, true),
  remove: callAt(1),
};

const ofSecrets: Rules<BoxSecrets> = {
  list: callAt(0),
  set: rule<SecretChange>(1, { ...call, value: true, hosts: true, placeholder: true }, true),
  remove: callAt(1),
};

const ofSnapshots: Rules<Snapshots> = {
  create: rule<SnapshotCreateOptions>(1, {
    ...call,
    quiesce: true,
    quiesceTimeoutMs: true,
    stopOnQuiesceFail: true,
    memory: true,
  }),
  list: callAt(0),
  get: callAt(1),
  restore: rule<Given<Snapshots['restore'], 1>>(1, { ...call, live: true }),
  remove: callAt(1),
};

const ofImages: Rules<Images> = {
  pull: rule<PullOptions>(1, { ...progress, platform: true, pullPolicy: true, registry: true }),
  import: rule<Given<Images['import'], 1>>(1, { ...progress, reference: true, platform: true }),
  build: rule<BuildOptions & DockerfileBuildOptions>(1, build, true),
  list: callAt(0),
  get: callAt(1),
  named: callAt(1),
  alias: callAt(3),
  remove: rule<RemoveImageOptions>(1, { ...call, force: true, allTags: true }),
  prune: callAt(0),
};

const ofTemplates: Rules<Templates> = {
  create: rule<TemplateOptions>(0, { ...call, box: true, name: true, overwrite: true, labels: true }, true),
  list: rule<Given<Templates['list'], 0>>(0, { ...call, type: true }),
  get: callAt(1),
  remove: callAt(1),
};

const ofVolumes: Rules<Volumes> = {
  create: rule<Given<Volumes['create'], 0>>(0, { ...call, name: true, sizeGb: true }),
  list: callAt(0),
  get: callAt(1),
  remove: rule<Given<Volumes['remove'], 1>>(1, { ...call, force: true }),
};

/** The options of every method, by the part of the surface that it belongs to. */
export const rules: Readonly<Record<string, Readonly<Record<string, Rule>>>> = {
  runtime: ofRuntime,
  box: ofBox,
  files: ofFiles,
  executions: ofExecutions,
  execution: { wait: callAt(0) },
  snapshot: ofSnapshots,
  network: ofNetwork,
  ports: ofPorts,
  previews: ofPreviews,
  secrets: ofSecrets,
  images: ofImages,
  templates: ofTemplates,
  volumes: ofVolumes,
};
