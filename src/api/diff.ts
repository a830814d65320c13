import type { CallOptions } from './common.js';
import type { FileInfo } from './files.js';

/**
 * What became of a file. `modified`: its content, the target of a link, the number of a device. `type`: it is something else
 * now, such as a link where a directory was. `metadata`: its content is the same; owner, mode, extended attributes or, but for
 * directories, the time of the last change are not.
 */
export const fileChangeKinds = ['added', 'removed', 'modified', 'type', 'metadata'] as const;

/** What became of a file: {@link fileChangeKinds}. */
export type FileChangeKind = (typeof fileChangeKinds)[number];

/** A file that differs between two states of a disk. A file that got another name is removed and added. */
export interface FileChange {
  /** Absolute. A byte of a name that is not of UTF-8 is a lone surrogate, U+DC80 to U+DCFF, as in other lists of files. */
  readonly path: string;
  readonly kind: FileChangeKind;
  /** Null: it was added. */
  readonly typeBefore: FileInfo['type'] | null;
  /** Null: it was removed. */
  readonly typeAfter: FileInfo['type'] | null;
  readonly sizeBefore: number | null;
  readonly sizeAfter: number | null;
}

/** Changed files, a page of them. */
export interface DiskDiff {
  /** By path: a directory before what is in it, names in the order of their bytes. */
  readonly changes: readonly FileChange[];
  /** Give it as `after` for the next page; null: there is none. */
  readonly next: string | null;
}

/**
 * A state of a disk. Of a paused box, and of a snapshot that was not frozen, it has what the guest had written to the disk by
 * then, as after a power cut; its journal counts.
 */
export interface DiskState {
  /** Name or id of a box of the same owner. @default the box that is asked */
  readonly box?: string;
  /** Name of one of its snapshots. @default the box as it is, which must not run */
  readonly snapshot?: string;
}

/** Which states are compared. */
export interface DiffOptions extends CallOptions {
  /** A state, or the name of a snapshot of the box. @default the image that the box was made of */
  readonly from?: string | DiskState;
  /** A state, or the name of a snapshot of the box. @default the box as it is, which must not run */
  readonly to?: string | DiskState;
  /** `next` of the page before. */
  readonly after?: string;
  /** Most changes of a page, 1 to 10,000; a page has fewer where paths are very long. @default 10000 */
  readonly limit?: number;
}

/** Limits of a comparison. */
export const diffLimits = {
  /** Changes of one page: 2 MB of JSON with usual paths. */
  page: 10_000,
} as const;
