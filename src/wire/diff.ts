import type { DiffOptions, DiskDiff, DiskState, FileChange, FileInfo } from '../api/index.js';
import { asObject, asObjects, type JsonObject, numberOrNull, text, textOrNull } from './json.js';

/** The answer of `GET {p}/boxes/{id}/diff`. */
export function diffToJson({ changes, next }: DiskDiff): JsonObject {
  return {
    changes: changes.map((it) => ({
      path: it.path,
      kind: it.kind,
      type_before: it.typeBefore,
      type_after: it.typeAfter,
      size_before: it.sizeBefore,
      size_after: it.sizeAfter,
    })),
    next,
  };
}

/** The inverse of {@link diffToJson}. */
export function diffFromJson(value: unknown): DiskDiff {
  const json = asObject(value, 'diff');
  return {
    changes: asObjects(json['changes'], 'changes').map((it) => ({
      path: text(it, 'path'),
      kind: text(it, 'kind') as FileChange['kind'],
      typeBefore: textOrNull(it, 'type_before') as FileInfo['type'] | null,
      typeAfter: textOrNull(it, 'type_after') as FileInfo['type'] | null,
      sizeBefore: numberOrNull(it, 'size_before'),
      sizeAfter: numberOrNull(it, 'size_after'),
    })),
    next: textOrNull(json, 'next'),
  };
}

/** Query of `GET {p}/boxes/{id}/diff`. A box without a snapshot is the box as it is. */
export interface DiffQuery {
  readonly from?: string | undefined;
  readonly from_box?: string | undefined;
  readonly to?: string | undefined;
  readonly to_box?: string | undefined;
  readonly after?: string | undefined;
  readonly limit?: number | undefined;
}

/** The query that stands for options. `boxId`: of the box that is asked. */
export function diffToQuery(options: DiffOptions, boxId: string): DiffQuery {
  const { from, to } = options;
  return {
    ...queryOf('from', 'from_box', from, boxId),
    ...queryOf('to', 'to_box', to, boxId),
    after: options.after,
    limit: options.limit,
  };
}

function queryOf(
  snapshot: 'from' | 'to',
  box: 'from_box' | 'to_box',
  state: string | DiskState | undefined,
  boxId: string,
): DiffQuery {
  if (state === undefined) return {};
  if (typeof state === 'string') return { [snapshot]: state };
  return {
    [snapshot]: state.snapshot,
    [box]: state.box ?? (state.snapshot === undefined ? boxId : undefined),
  };
}

/** The inverse of {@link diffToQuery}. */
export function diffFromQuery(query: DiffQuery): DiffOptions {
  const state = (snapshot: string | undefined, box: string | undefined): DiskState | undefined =>
    snapshot === undefined && box === undefined
      ? undefined
      : { ...(snapshot === undefined ? {} : { snapshot }), ...(box === undefined ? {} : { box }) };
  const from = state(query.from, query.from_box);
  const to = state(query.to, query.to_box);
  return {
    ...(from && { from }),
    ...(to && { to }),
    ...(query.after === undefined ? {} : { after: query.after }),
    ...(query.limit === undefined ? {} : { limit: query.limit }),
  };
}
