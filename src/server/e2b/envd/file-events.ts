import { posix } from 'node:path';
import type { FileEvent, Files } from '../../../api/index.js';
import { CryoboxError } from '../../../errors.js';
import { entryOf } from './entries.js';
import { eventTypes, type FilesystemEvent } from './filesystem-messages.js';
import type { Names } from './users.js';

/** What is watched, and for whom. */
export interface Watched {
  readonly files: Files;
  readonly names: Names;
  /** The directory, as it was asked for. */
  readonly directory: string;
  /** Whether events come with what is at their path then. */
  readonly includeEntry: boolean;
}

const types = {
  created: eventTypes.create,
  written: eventTypes.write,
  removed: eventTypes.remove,
  renamed: eventTypes.rename,
  attributes: eventTypes.chmod,
} as const;

/** Types whose events may come with an entry: something is there. */
const withEntry: ReadonlySet<number> = new Set([eventTypes.create, eventTypes.write, eventTypes.chmod]);

/**
 * An event of a directory as E2B's clients know it; a rename is two. What became of the directory itself has no name there.
 * Throws `resource_exhausted` where events were lost: those clients know no event for that.
 */
export async function filesystemEvents(watched: Watched, event: FileEvent): Promise<FilesystemEvent[]> {
  const { type, path, to } = event;
  if (type === 'overflow') {
    throw new CryoboxError(
      'resource_exhausted',
      'more happened than could be told, and some of it was lost',
      {
        hint: 'List the directory, and watch it again.',
      },
    );
  }
  if (path === watched.directory) return [];
  const events = [await eventAt(watched, path, types[type])];
  if (to !== undefined) events.push(await eventAt(watched, to, eventTypes.create));
  return events;
}

async function eventAt(watched: Watched, path: string, type: number): Promise<FilesystemEvent> {
  const { files, names, directory, includeEntry } = watched;
  const name = posix.relative(directory, path);
  const info = includeEntry && withEntry.has(type) ? await files.stat(path) : null;
  return info ? { name, type, entry: await entryOf(files, names, info) } : { name, type };
}
