import { access, chmod, constants, mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ifExists } from '../../base/files.js';
import { CryoboxError, errnoOf, isCryoboxError, messageOf } from '../../errors.js';
import { isHomeDatabase } from '../../store/index.js';
import { fileSystemRule } from './file-systems.js';
import type { HomePaths } from './home.js';
import { isMarked, isUnfinishedMark, writeMark } from './home-marker.js';

/** What is where a home is to be: nothing, a directory that may become one, or a home of ours. */
export type HomeState = 'absent' | 'empty' | 'home';

/** What a home may hold before it is one: settings its user made first, and what mkfs makes. */
const allowedBefore = new Set(['registries.json', 'network.json', 'lost+found']);
/** So many names say what is there. */
const shownNames = 4;

const chooseAnother =
  'Set CRYOBOX_HOME (or --home) to an empty directory of your own, or one that is not there yet.';

/**
 * Says what is where a home is to be, and touches nothing. Throws `config_error` when that cannot be, or become, a home:
 * it is `/` or no directory, belongs to another user, holds other files, or lies where nothing can be written.
 */
export async function inspectHome({ root, ...paths }: HomePaths): Promise<HomeState> {
  if (root === '/') throw refusal('/ cannot be a home');
  try {
    const facts = await ifExists(stat(root));
    if (facts && !facts.isDirectory()) throw refusal(`${root} cannot be a home: it is not a directory`);
    if (facts) requireOwner(root, facts.uid);
    await requireFileSystem(facts ? root : await nearestDirectory(root));
    if (!facts) return 'absent';
    await access(root, constants.R_OK);
    // Names first: the mark is made before anything else, so whoever sees other things of ours sees it too.
    const names = (await readdir(root)).filter((name) => !allowedBefore.has(name) && !isUnfinishedMark(name));
    if (names.length === 0) {
      requirePrivate(root, facts.mode);
      return 'empty';
    }
    if ((await isMarked(paths.marker)) || (await isHomeDatabase(paths.database))) return 'home';
    throw refusal(`${root} is no home of Cryobox, and not empty: it holds ${listed(names)}`);
  } catch (error) {
    throw homeError(root, error);
  }
}

/**
 * Makes a home, or what of it is missing, readable by its owner only. What is not empty and no home is left as it is.
 * Throws what {@link inspectHome} throws, `disk_full`.
 */
export async function prepareHome(paths: HomePaths): Promise<void> {
  const state = await inspectHome(paths);
  const { root } = paths;
  try {
    if (state === 'absent') await makeDirectory(root);
    const facts = await stat(root);
    if ((facts.mode & 0o077) !== 0) await chmod(root, 0o700);
    if (!(await ifExists(stat(paths.marker)))) await writeMark(paths.marker);
    for (const folder of homeFolders(paths)) {
      await makeDirectory(folder);
      // Layers move between them and are linked into machines: neither goes beyond a file system.
      if ((await stat(folder)).dev !== facts.dev) {
        throw refusal(
          `${folder} lies on another file system than the home`,
          'Move the home as a whole; its folders must be on one file system.',
        );
      }
    }
  } catch (error) {
    throw homeError(root, error);
  }
}

/** Why the place of a home is not a good one; undefined when it is. The path, or a directory above it, must exist. */
export async function homeWarning({ root }: HomePaths): Promise<string | undefined> {
  const rule = await fileSystemRule(await nearestDirectory(root));
  return rule?.verdict === 'warned' ? `the home ${root} is on ${rule.name}: ${rule.why}` : undefined;
}

/** The directory at a path, or the nearest one above it that exists. */
export async function nearestDirectory(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    if ((await ifExists(stat(at)))?.isDirectory() || at === dirname(at)) return at;
  }
}

function homeFolders(paths: HomePaths): string[] {
  return [paths.layers, paths.machines, paths.boxes, paths.images, paths.guest, paths.scratch];
}

async function requireFileSystem(path: string): Promise<void> {
  const rule = await fileSystemRule(path);
  if (rule?.verdict === 'refused') throw refusal(`no home can be on ${rule.name} (${path}): ${rule.why}`);
  // Other file systems may be mounted in them, and are the kernel's all the same.
  const kernels = /^\/(proc|sys)(\/|$)/.exec(await realpath(path))?.[1];
  if (kernels) throw refusal(`no home can be in /${kernels} (${path})`);
  await access(path, constants.W_OK | constants.X_OK);
}

function requireOwner(root: string, uid: number): void {
  const me = process.getuid?.();
  if (uid === me) return;
  throw refusal(
    `${root} belongs to user ${uid}, and this is user ${me}`,
    'Run as the owner of the home, or set CRYOBOX_HOME to a directory of your own.',
  );
}

/** A directory that everybody may write, such as /tmp, is in use by others even when it is empty. */
function requirePrivate(root: string, mode: number): void {
  if ((mode & 0o1002) === 0) return;
  throw refusal(`${root} is a directory that others may write (mode ${(mode & 0o7777).toString(8)})`);
}

/** Makes a directory and those above it. (Node's own recursion never ends where none can be made, as in /proc.) */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    const parent = dirname(path);
    if (errnoOf(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (errnoOf(error) !== 'ENOENT' || (await ifExists(stat(parent)))) throw error;
    await makeDirectory(parent);
    await makeDirectory(path);
  }
}

function listed(names: readonly string[]): string {
  const shown = names.toSorted().slice(0, shownNames);
  const more = names.length - shown.length;
  return `${shown.map((name) => JSON.stringify(name)).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function refusal(message: string, hint = chooseAnother): CryoboxError {
  return new CryoboxError('config_error', message, { hint });
}

/** What the host says of a place, in words. */
const reasons: Readonly<Record<string, string>> = {
  EACCES: 'this user may not use it',
  EPERM: 'the file system does not allow it; a home needs hard links',
  EROFS: 'its file system is mounted read-only',
  ENOTDIR: 'a part of the path is not a directory',
  ELOOP: 'its symbolic links lead in a circle',
  ENAMETOOLONG: 'the path is too long',
  ENOTSUP: 'its file system has no hard links',
};

function homeError(root: string, error: unknown): unknown {
  if (isCryoboxError(error)) return error;
  const errno = errnoOf(error) ?? '';
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new CryoboxError('disk_full', `no room is left for the home ${root}`, { cause: error });
  }
  const why = reasons[errno];
  return new CryoboxError('config_error', `cannot use ${root} as home: ${why ?? messageOf(error)}`, {
    cause: error,
    hint: errno === 'EACCES' ? `Run as the owner of the home, or: ${chooseAnother}` : chooseAnother,
  });
}
