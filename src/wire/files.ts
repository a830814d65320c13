import type { CopyResult, FileInfo } from '../api/index.js';
import { asObject, compact, date, type JsonObject, number, text, textOrNull } from './json.js';

/** Answer headers of `PUT {p}/boxes/{id}/files`, whose body v1 leaves empty: what the copy moved. */
const copiedHeaders = { entries: 'x-cryobox-entries', bytes: 'x-cryobox-bytes' } as const;

/** {@link CopyResult} as headers. */
export function copyResultToHeaders(result: CopyResult): Record<string, string> {
  return { [copiedHeaders.entries]: String(result.entries), [copiedHeaders.bytes]: String(result.bytes) };
}

/** The inverse of {@link copyResultToHeaders}; zero where a server sends none. */
export function copyResultFromHeaders(headers: Readonly<Record<string, unknown>>): CopyResult {
  return {
    entries: Number(headers[copiedHeaders.entries] ?? 0),
    bytes: Number(headers[copiedHeaders.bytes] ?? 0),
  };
}

/** A file's facts on the wire. */
export function fileToJson(info: FileInfo): JsonObject {
  return compact({
    path: info.path,
    type: info.type,
    size_bytes: info.sizeBytes,
    mode: info.mode,
    uid: info.uid,
    gid: info.gid,
    modified_at: info.modifiedAt.toISOString(),
    link_target: info.linkTarget,
  });
}

/** The inverse of {@link fileToJson}. */
export function fileFromJson(value: unknown): FileInfo {
  const json = asObject(value, 'file');
  return compact({
    path: text(json, 'path'),
    type: text(json, 'type') as FileInfo['type'],
    sizeBytes: number(json, 'size_bytes'),
    mode: number(json, 'mode'),
    uid: number(json, 'uid'),
    gid: number(json, 'gid'),
    modifiedAt: date(json, 'modified_at'),
    linkTarget: textOrNull(json, 'link_target') ?? undefined,
  });
}
