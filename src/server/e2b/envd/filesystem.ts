import { posix } from 'node:path';
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import type { FileInfo, Files, FileWatch } from '../../../api/index.js';
import { withPauses } from '../../../base/pauses.js';
import { CryoboxError } from '../../../errors.js';
import type { Watchers } from '../watchers.js';
import { askerOf } from './asker.js';
import { entryOf } from './entries.js';
import { filesystemEvents, type Watched } from './file-events.js';
import type { EntryInfo, filesystemService } from './filesystem-messages.js';
import { keepAliveMsOf } from './keep-alive.js';
import { makeDirectories } from './make-directories.js';
import { type Names, namesOf, resolvePath, type User } from './users.js';

/** Entries of one listing: what a client holds in memory. */
const maxEntries = 100_000;

/** What serving a call about files needs. */
interface Place {
  readonly files: Files;
  readonly names: Names;
  readonly user: User;
}

function missing(path: string): CryoboxError {
  return new CryoboxError('not_found', `path '${path}' does not exist`, { details: { path } });
}

async function requireStat(files: Files, path: string): Promise<FileInfo> {
  const info = await files.stat(path);
  if (info) return info;
  throw missing(path);
}

async function entryAt({ files, names }: Place, path: string): Promise<{ entry: EntryInfo }> {
  return { entry: await entryOf(files, names, await requireStat(files, path)) };
}

/** Entries of a directory and, `depth` levels deep, of those in it, in the order of a walk. */
async function listTo(
  place: Place,
  directory: { readonly real: string; readonly shown: string },
  depth: number,
  found: EntryInfo[],
): Promise<void> {
  const { files, names } = place;
  for (const info of await files.list(directory.real)) {
    if (found.length >= maxEntries) {
      throw new CryoboxError('payload_too_large', `there are more than ${maxEntries} entries`, {
        hint: 'List fewer levels at once.',
      });
    }
    const name = posix.basename(info.path);
    const shown = posix.join(directory.shown, name);
    found.push({ ...(await entryOf(files, names, info)), path: shown });
    if (depth > 1 && info.type === 'directory') {
      await listTo(place, { real: info.path, shown }, depth - 1, found);
    }
  }
}

/** The directory at a path, behind a link too. Throws `not_found`, `invalid_argument`. */
async function directoryAt(place: Place, shown: string): Promise<{ real: string; shown: string }> {
  const info = await requireStat(place.files, shown);
  const entry = await entryOf(place.files, place.names, info);
  const real = entry.symlinkTarget ?? shown;
  if ((await place.files.stat(real))?.type !== 'directory') {
    throw new CryoboxError('invalid_argument', `path is not a directory: ${shown}`);
  }
  return { real, shown };
}

type Methods = ServiceImpl<typeof filesystemService>;

/** Files, without those that are watched. */
const plain: Omit<Methods, keyof ReturnType<typeof watching>> = {
  async stat({ path }, context) {
    const place = await placeOf(context);
    return await entryAt(place, resolvePath(path, place.user));
  },

  async makeDir({ path }, context) {
    const place = await placeOf(context);
    const directory = resolvePath(path, place.user);
    const there = await place.files.stat(directory);
    if (there?.type === 'directory') {
      throw new CryoboxError('already_exists', `directory already exists: ${directory}`);
    }
    if (there)
      throw new CryoboxError(
        'invalid_argument',
        `path already exists but it is not a directory: ${directory}`,
      );
    await makeDirectories(place.files, directory, place.user);
    return await entryAt(place, directory);
  },

  async move({ source, destination }, context) {
    const place = await placeOf(context);
    const [from, to] = [resolvePath(source, place.user), resolvePath(destination, place.user)];
    await requireStat(place.files, from);
    await makeDirectories(place.files, posix.dirname(to), place.user);
    await place.files.rename(from, to, { overwrite: true });
    return await entryAt(place, to);
  },

  async listDir({ path, depth }, context) {
    const place = await placeOf(context);
    const directory = await directoryAt(place, resolvePath(path, place.user));
    const entries: EntryInfo[] = [];
    await listTo(place, directory, depth || 1, entries);
    return { entries };
  },

  async remove({ path }, context) {
    const { files, user } = await placeOf(context);
    const target = resolvePath(path, user);
    if (await files.stat(target)) await files.remove(target, { recursive: true });
    return {};
  },
};

/** A directory that a request asks to watch, and its watch. */
async function watchOf(
  context: HandlerContext,
  { path, recursive, includeEntry }: { path: string; recursive: boolean; includeEntry: boolean },
  signal?: AbortSignal,
): Promise<{ watch: FileWatch; watched: Watched }> {
  const { files, names, user } = await placeOf(context);
  const { shown } = await directoryAt({ files, names, user }, resolvePath(path, user));
  const watch = await files.watch(shown, { recursive, signal });
  return { watch, watched: { files, names, directory: shown, includeEntry } };
}

/** Directories that are watched: a stream of events, or a watcher whose events a client comes for. */
function watching(
  watchers: Watchers,
): Pick<Methods, 'watchDir' | 'createWatcher' | 'getWatcherEvents' | 'removeWatcher'> {
  return {
    async *watchDir(request, context) {
      const { watch, watched } = await watchOf(context, request, context.signal);
      let hasStarted = false;
      for await (const event of withPauses(watch, keepAliveMsOf(context))) {
        if (event === undefined) {
          yield { event: { case: hasStarted ? 'keepalive' : 'start', value: {} } };
          hasStarted = true;
          continue;
        }
        for (const value of await filesystemEvents(watched, event)) {
          yield { event: { case: 'filesystem', value } };
        }
      }
      if (context.signal.aborted)
        throw new ConnectError('the time of the watch is up', Code.DeadlineExceeded);
    },

    async createWatcher(request, context) {
      const { watch, watched } = await watchOf(context, request);
      return { watcherId: watchers.add(askerOf(context).box.id, watch, watched) };
    },

    getWatcherEvents({ watcherId }, context) {
      return { events: watchers.take(askerOf(context).box.id, watcherId) };
    },

    removeWatcher({ watcherId }, context) {
      watchers.remove(askerOf(context).box.id, watcherId);
      return {};
    },
  };
}

/** `filesystem.Filesystem` over the files of boxes. */
export function filesystemImplementation(watchers: Watchers): Methods {
  return { ...plain, ...watching(watchers) };
}

async function placeOf(context: HandlerContext): Promise<Place> {
  const { box, userName } = askerOf(context);
  const names = await namesOf(box.files);
  const user = names.user(userName);
  if (!user) throw new CryoboxError('user_not_found', `invalid username: '${userName}'`);
  return { files: box.files, names, user };
}
