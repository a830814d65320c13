import type { Consistency, SnapshotInfo } from '../api/index.js';
import { asObject, type JsonObject, number, text, textOrNull } from './json.js';

/** `Snapshot` of the v1 contract, section 1.5 (`created_at` in whole seconds since 1970), and ours. */
export function snapshotToJson(info: SnapshotInfo & { readonly guestPauseMs?: number }): JsonObject {
  return {
    id: info.id,
    box_id: info.boxId,
    name: info.name,
    created_at: Math.floor(info.createdAt.getTime() / 1000),
    created_at_ms: info.createdAt.getTime(),
    size_bytes: info.sizeBytes,
    guest_disk_bytes: info.guestDiskBytes,
    container_disk_bytes: info.containerDiskBytes,
    exclusive_bytes: info.exclusiveBytes,
    has_memory: info.hasMemory,
    parent: info.parent,
    consistency: info.consistency,
    ...(info.guestPauseMs === undefined ? {} : { guest_pause_ms: info.guestPauseMs }),
  };
}

/** The inverse of {@link snapshotToJson}. */
export function snapshotFromJson(value: unknown): SnapshotInfo & { readonly guestPauseMs: number } {
  const json = asObject(value, 'snapshot');
  return {
    id: text(json, 'id'),
    boxId: text(json, 'box_id'),
    name: text(json, 'name'),
    createdAt: new Date(number(json, 'created_at_ms', number(json, 'created_at') * 1000)),
    sizeBytes: number(json, 'size_bytes'),
    guestDiskBytes: number(json, 'guest_disk_bytes', 0),
    containerDiskBytes: number(json, 'container_disk_bytes'),
    exclusiveBytes: number(json, 'exclusive_bytes', 0),
    hasMemory: json['has_memory'] === true,
    parent: textOrNull(json, 'parent'),
    consistency: (textOrNull(json, 'consistency') ?? 'crash') as Consistency,
    guestPauseMs: number(json, 'guest_pause_ms', 0),
  };
}
