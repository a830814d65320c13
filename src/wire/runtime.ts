import type {
  GcResult,
  Progress,
  ResourceUse,
  RuntimeEvent,
  RuntimeMetrics,
  TemplateInfo,
  VerifyResult,
  VolumeInfo,
} from '../api/index.js';
import {
  asObject,
  asObjects,
  compact,
  date,
  type JsonObject,
  number,
  numberOrNull,
  text,
  textMap,
  textOrNull,
  texts,
} from './json.js';

/** `RuntimeMetrics` of the v1 contract, section 1.5. */
export function runtimeMetricsToJson(metrics: RuntimeMetrics): JsonObject {
  const { boxesCreatedTotal: created, boxesFailedTotal: failed, runningBoxes: running } = metrics;
  return {
    boxes_created_total: created,
    boxes_failed_total: failed,
    // v1 clients show created, less stopped, less failed, as what runs (v1 contract, section 1.5).
    boxes_stopped_total: Math.max(0, created - failed - running),
    stops_total: metrics.boxesStoppedTotal,
    num_running_boxes: metrics.runningBoxes,
    total_commands_executed: metrics.commandsExecutedTotal,
    total_exec_errors: metrics.execErrorsTotal,
    num_hot_machines: metrics.hotMachines,
    uses: metrics.uses.map(({ scope, resource, used, limit }) => ({ scope, resource, used, limit })),
  };
}

/** The inverse of {@link runtimeMetricsToJson}. */
export function runtimeMetricsFromJson(value: unknown): RuntimeMetrics {
  const json = asObject(value, 'metrics');
  return {
    boxesCreatedTotal: number(json, 'boxes_created_total', 0),
    boxesFailedTotal: number(json, 'boxes_failed_total', 0),
    boxesStoppedTotal: number(json, 'stops_total', number(json, 'boxes_stopped_total', 0)),
    runningBoxes: number(json, 'num_running_boxes', 0),
    commandsExecutedTotal: number(json, 'total_commands_executed', 0),
    execErrorsTotal: number(json, 'total_exec_errors', 0),
    hotMachines: number(json, 'num_hot_machines', 0),
    uses: asObjects(json['uses'] ?? [], 'uses').map((use) => ({
      scope: text(use, 'scope') as ResourceUse['scope'],
      resource: text(use, 'resource') as ResourceUse['resource'],
      used: number(use, 'used'),
      limit: numberOrNull(use, 'limit'),
    })),
  };
}

/** `Template` of the v1 contract ("What ours adds to v1"). */
export function templateToJson(info: TemplateInfo): JsonObject {
  return {
    name: info.name,
    type: info.type,
    vcpus: info.cpus,
    memory_mb: info.memoryMiB,
    disk_size_gb: info.diskSizeGb,
    image: info.image,
    size_bytes: info.sizeBytes,
    created_at: info.createdAt.toISOString(),
    labels: info.labels,
  };
}

/** The inverse of {@link templateToJson}. */
export function templateFromJson(value: unknown): TemplateInfo {
  const json = asObject(value, 'template');
  return {
    name: text(json, 'name'),
    type: 'memory',
    cpus: number(json, 'vcpus', 0),
    memoryMiB: number(json, 'memory_mb', 0),
    diskSizeGb: number(json, 'disk_size_gb', 0),
    image: textOrNull(json, 'image') ?? '',
    sizeBytes: number(json, 'size_bytes'),
    createdAt: date(json, 'created_at'),
    // A server of an earlier release says nothing of them.
    labels: textMap(json, 'labels'),
  };
}

/** `Volume` of the v1 contract, section 1.5. */
export function volumeToJson(info: VolumeInfo): JsonObject {
  return {
    id: info.id,
    name: info.name,
    created_at: info.createdAt.toISOString(),
    updated_at: info.createdAt.toISOString(),
    size_bytes: info.sizeBytes,
    used_bytes: info.usedBytes,
    box_ids: info.boxes,
    state: 'ready',
  };
}

/** The inverse of {@link volumeToJson}. */
export function volumeFromJson(value: unknown): VolumeInfo {
  const json = asObject(value, 'volume');
  return {
    id: text(json, 'id'),
    name: textOrNull(json, 'name') ?? text(json, 'id'),
    createdAt: date(json, 'created_at'),
    sizeBytes: number(json, 'size_bytes', 0),
    usedBytes: number(json, 'used_bytes', 0),
    boxes: texts(json, 'box_ids'),
  };
}

/** One line of `GET {p}/events`. */
export function eventToJson(event: RuntimeEvent): JsonObject {
  return {
    at: event.at.toISOString(),
    kind: event.kind,
    id: event.id,
    change: event.change,
    position: event.position,
  };
}

/** The inverse of {@link eventToJson}. */
export function eventFromJson(json: JsonObject): RuntimeEvent {
  return {
    at: date(json, 'at'),
    kind: text(json, 'kind') as RuntimeEvent['kind'],
    id: text(json, 'id'),
    change: text(json, 'change'),
    position: textOrNull(json, 'position') ?? '',
  };
}

/** One progress line of an answer in `application/x-ndjson`. */
export function progressToJson(progress: Progress): JsonObject {
  return compact({
    type: 'progress',
    stage: progress.stage,
    done_bytes: progress.doneBytes,
    total_bytes: progress.totalBytes,
    item: progress.item,
  });
}

/** The inverse of {@link progressToJson}. */
export function progressFromJson(json: JsonObject): Progress {
  return compact({
    stage: text(json, 'stage'),
    doneBytes: number(json, 'done_bytes', 0),
    totalBytes: numberOrNull(json, 'total_bytes') ?? undefined,
    item: textOrNull(json, 'item') ?? undefined,
  });
}

/** What a garbage collection deleted. */
export function gcResultToJson(result: GcResult): JsonObject {
  return { removed: result.removed, freed_bytes: result.freedBytes };
}

/** The inverse of {@link gcResultToJson}. */
export function gcResultFromJson(value: unknown): GcResult {
  const json = asObject(value);
  return {
    removed: asObjects(json['removed'], 'removed').map((each) => ({
      path: text(each, 'path'),
      bytes: number(each, 'bytes'),
    })),
    freedBytes: number(json, 'freed_bytes'),
  };
}

/** What a verification found. */
export function verifyResultToJson(result: VerifyResult): JsonObject {
  return { ok: result.ok, checked_layers: result.checkedLayers, problems: result.problems };
}

/** The inverse of {@link verifyResultToJson}. */
export function verifyResultFromJson(value: unknown): VerifyResult {
  const json = asObject(value);
  return {
    ok: json['ok'] === true,
    checkedLayers: number(json, 'checked_layers'),
    problems: asObjects(json['problems'], 'problems').map((each) => ({
      what: text(each, 'what'),
      problem: text(each, 'problem'),
    })),
  };
}
