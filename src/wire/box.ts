import type {
  BoxActivity,
  BoxInfo,
  BoxMetrics,
  BoxStatus,
  Durability,
  LifetimeAction,
} from '../api/index.js';
import { diskLimitsOf, diskLimitsToJson } from './disk-limits.js';
import { exitCodeOf } from './execution.js';
import {
  asObject,
  asObjects,
  compact,
  date,
  type JsonObject,
  number,
  numberMap,
  numberOrNull,
  text,
  textMap,
  textOrNull,
  texts,
} from './json.js';
import { networkOf, networkToJson } from './network.js';
import { portFromJson, portToJson } from './ports.js';

/** A box on the wire: `Box` of the v1 contract, section 1.5, and what ours knows beyond it. */
export function boxToJson(info: BoxInfo): JsonObject {
  return {
    box_id: info.id,
    name: info.name,
    status: info.status,
    operation: info.operation,
    created_at: info.createdAt.toISOString(),
    updated_at: info.updatedAt.toISOString(),
    last_activity_at: info.lastActivityAt.toISOString(),
    image: info.image,
    template: info.template,
    cpus: info.cpus,
    memory_mib: info.memoryMiB,
    disk_size_gb: info.diskSizeGb,
    env: info.env,
    missing_env: info.missingEnv,
    hostname: info.hostname,
    working_dir: info.workingDir,
    user: info.user,
    entrypoint: info.entrypoint,
    cmd: info.cmd,
    tty: info.main?.tty ?? false,
    exit_code: info.main && exitCodeOf(info.main),
    main: info.main && {
      command: info.main.command,
      tty: info.main.tty,
      exit_code: info.main.exitCode,
      signal: info.main.signal,
    },
    labels: info.labels,
    auto_stop: info.autoStop,
    auto_stop_action: info.autoStopAction,
    auto_delete: info.autoDelete,
    lifetime: info.lifetime,
    lifetime_action: info.lifetimeAction,
    ends_at: info.endsAt?.toISOString() ?? null,
    auto_resume: info.autoResume,
    detach: info.detach,
    network: networkToJson(info.network),
    disk_io: diskLimitsToJson(info.diskLimits),
    capabilities: info.capabilities,
    volumes: info.volumes.map((mount) => ({
      managed_volume: mount.volume,
      guest_path: mount.guestPath,
      read_only: mount.readOnly ?? false,
    })),
    published_ports: info.ports.map(portToJson),
    pid: info.pid,
    run: info.run,
    failure: info.failure,
    stages: info.stages,
    durability: info.durability,
    storage: { disk_bytes: info.storage.diskBytes, memory_bytes: info.storage.memoryBytes },
  };
}

function mainOf(json: JsonObject): BoxInfo['main'] {
  if (typeof json['main'] !== 'object' || json['main'] === null) return null;
  const main = asObject(json['main'], 'main');
  return {
    command: texts(main, 'command'),
    tty: main['tty'] === true,
    exitCode: numberOrNull(main, 'exit_code'),
    signal: numberOrNull(main, 'signal'),
  };
}

function capabilitiesOf(json: JsonObject): BoxInfo['capabilities'] {
  const value = asObject(json['capabilities'] ?? {}, 'capabilities');
  return compact({
    add: value['add'] === undefined ? undefined : texts(value, 'add'),
    drop: value['drop'] === undefined ? undefined : texts(value, 'drop'),
  });
}

/** Servers that know nothing of it keep boxes on their own host. */
function durabilityOf(json: JsonObject): Durability {
  const value = json['durability'];
  return value === 'replicating' || value === 'replicated' ? value : 'local';
}

function lifetimeActionOf(json: JsonObject): LifetimeAction {
  const value = json['lifetime_action'];
  return value === 'pause' || value === 'remove' ? value : 'stop';
}

/** The inverse of {@link boxToJson}; `upstream_unavailable` when a field every server sends is missing. */
export function boxFromJson(value: unknown): BoxInfo {
  const json = asObject(value, 'box');
  const storage = asObject(json['storage'] ?? {}, 'storage');
  return {
    id: text(json, 'box_id'),
    name: textOrNull(json, 'name'),
    status: text(json, 'status') as BoxStatus,
    operation: textOrNull(json, 'operation') as BoxActivity | null,
    createdAt: date(json, 'created_at'),
    updatedAt: date(json, 'updated_at'),
    // Servers of other makes leave it out of boxes that nobody has used.
    lastActivityAt: date(json, json['last_activity_at'] === undefined ? 'updated_at' : 'last_activity_at'),
    image: text(json, 'image'),
    template: textOrNull(json, 'template'),
    cpus: number(json, 'cpus'),
    memoryMiB: number(json, 'memory_mib'),
    diskSizeGb: number(json, 'disk_size_gb', 0),
    env: textMap(json, 'env'),
    missingEnv: json['missing_env'] === undefined ? [] : texts(json, 'missing_env'),
    hostname: textOrNull(json, 'hostname') ?? '',
    workingDir: textOrNull(json, 'working_dir') ?? '/',
    user: textOrNull(json, 'user') ?? '',
    entrypoint: texts(json, 'entrypoint'),
    cmd: texts(json, 'cmd'),
    main: mainOf(json),
    labels: textMap(json, 'labels'),
    autoStop: number(json, 'auto_stop', 0),
    autoStopAction: json['auto_stop_action'] === 'pause' ? 'pause' : 'stop',
    autoDelete: number(json, 'auto_delete', 0),
    lifetime: number(json, 'lifetime', 0),
    lifetimeAction: lifetimeActionOf(json),
    endsAt: textOrNull(json, 'ends_at') === null ? null : date(json, 'ends_at'),
    autoResume: json['auto_resume'] !== false,
    detach: json['detach'] !== false,
    network: networkOf(json),
    diskLimits: diskLimitsOf(json),
    capabilities: capabilitiesOf(json),
    volumes: asObjects(json['volumes'] ?? [], 'volumes').map((mount) => ({
      volume: text(mount, 'managed_volume'),
      guestPath: text(mount, 'guest_path'),
      readOnly: mount['read_only'] === true,
    })),
    ports: asObjects(json['published_ports'] ?? [], 'published_ports').map(portFromJson),
    pid: numberOrNull(json, 'pid'),
    run: textOrNull(json, 'run'),
    failure: textOrNull(json, 'failure'),
    stages: numberMap(json, 'stages'),
    durability: durabilityOf(json),
    storage: {
      diskBytes: number(storage, 'disk_bytes', 0),
      memoryBytes: number(storage, 'memory_bytes', 0),
    },
  };
}

/** Rounds what a v1 client reads as an unsigned integer. */
const whole = (value: number | null): number | null =>
  value === null ? null : Math.max(0, Math.round(value));

/** Counters of a box: `BoxMetrics` of the v1 contract, section 1.5, and ours. Null gauges are left out. */
export function boxMetricsToJson(metrics: BoxMetrics): JsonObject {
  const absent = <T>(value: T | null): T | undefined => value ?? undefined;
  return compact({
    commands_executed_total: whole(metrics.commandsExecutedTotal),
    exec_errors_total: whole(metrics.execErrorsTotal),
    bytes_sent_total: whole(metrics.bytesSentTotal),
    bytes_received_total: whole(metrics.bytesReceivedTotal),
    cpu_percent: absent(metrics.cpuPercent),
    memory_bytes: absent(whole(metrics.memoryBytes)),
    network_bytes_sent: absent(whole(metrics.networkBytesSent)),
    network_bytes_received: absent(whole(metrics.networkBytesReceived)),
    disk_used_bytes: absent(whole(metrics.diskUsedBytes)),
    uptime_ms: absent(whole(metrics.uptimeMs)),
    stages: metrics.stages,
    boot_timing: { total_create_ms: whole(Object.values(metrics.stages).reduce((sum, ms) => sum + ms, 0)) },
  });
}

/** The inverse of {@link boxMetricsToJson}. */
export function boxMetricsFromJson(value: unknown): BoxMetrics {
  const json = asObject(value, 'metrics');
  return {
    commandsExecutedTotal: number(json, 'commands_executed_total', 0),
    execErrorsTotal: number(json, 'exec_errors_total', 0),
    bytesSentTotal: number(json, 'bytes_sent_total', 0),
    bytesReceivedTotal: number(json, 'bytes_received_total', 0),
    cpuPercent: numberOrNull(json, 'cpu_percent'),
    memoryBytes: numberOrNull(json, 'memory_bytes'),
    networkBytesSent: numberOrNull(json, 'network_bytes_sent'),
    networkBytesReceived: numberOrNull(json, 'network_bytes_received'),
    diskUsedBytes: numberOrNull(json, 'disk_used_bytes'),
    uptimeMs: numberOrNull(json, 'uptime_ms'),
    stages: numberMap(json, 'stages'),
  };
}
