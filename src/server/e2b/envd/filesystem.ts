import { posix } from 'node:path';
import type { ServiceImpl } from '@connectrpc/connect';
import type { FileInfo, Files } from '../../../api/index.js';
import { CryoboxError } from '../../../errors.js';
import { askerOf } from './asker.js';
import { entryOf } from './entries.js';
import type { EntryInfo, filesystemService } from './filesystem-messages.js';
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

/** `filesystem.Filesystem` over the files of boxes. */
export const filesystem: Partial<ServiceImpl<typeof filesystemService>> = {
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
    const shown = resolvePath(path, place.user);
    const info = await requireStat(place.files, shown);
    const entry = await entryOf(place.files, place.names, info);
    const real = entry.symlinkTarget ?? shown;
    if ((await place.files.stat(real))?.type !== 'directory') {
      throw new CryoboxError('invalid_argument', `path is not a directory: ${shown}`);
    }
    const entries: EntryInfo[] = [];
    await listTo(place, { real, shown }, depth || 1, entries);
    return { entries };
  },

  async remove({ path }, context) {
    const { files, user } = await placeOf(context);
    const target = resolvePath(path, user);
    if (await files.stat(target)) await files.remove(target, { recursive: true });
    return {};
  },
};

async function placeOf(context: Parameters<typeof askerOf>[0]): Promise<Place> {
  const { box, userName } = askerOf(context);
  const names = await namesOf(box.files);
  const user = names.user(userName);
  if (!user) throw new CryoboxError('user_not_found', `invalid username: '${userName}'`);
  return { files: box.files, names, user };
}
