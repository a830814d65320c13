import type { CallOptions } from './common.js';

/**
 * What happened: `created` (also: moved here from elsewhere), `written` (the content of a file changed, perhaps told more than
 * once), `removed` (also: moved elsewhere), `renamed`, `attributes` (mode, owner, times, extended attributes), `overflow`:
 * more happened than was kept for a slow reader, and some of it was lost.
 */
export type FileEventType = 'created' | 'written' | 'removed' | 'renamed' | 'attributes' | 'overflow';

/** Something that happened in a watched directory. */
export interface FileEvent {
  readonly type: FileEventType;
  /** What it happened to, below the path that is watched, as that was given; that path itself for `overflow`. */
  readonly path: string;
  /** Its new path; of `renamed` only. */
  readonly to?: string;
  /** Whether it is a directory. */
  readonly isDirectory: boolean;
}

/** How a directory is watched. */
export interface WatchOptions extends CallOptions {
  /** Also what happens in the directories below, those made later among them. @default false */
  readonly recursive?: boolean;
}

/**
 * The events of a watched directory, in their order, for one reader. At most 16,384 that nobody has read wait in the box, and
 * some thousands on the way here; then an event `overflow` stands for those that were lost.
 *
 * It ends in order when it is closed, when its signal is raised, and, after `removed` with the watched path, when the directory
 * itself is removed or renamed. It fails with `invalid_state` when the box is paused, stopped or put back to a snapshot, with
 * `not_found` when the box is removed, `machine_failed` when its machine ends, `engine_unavailable` when the engine closes, and
 * `resource_exhausted` when more directories come than one watch has.
 */
export interface FileWatch extends AsyncIterable<FileEvent>, AsyncDisposable {
  /** Ends it: whoever reads gets no more. */
  close(): Promise<void>;
}
