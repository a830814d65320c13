import { chmod, mkdir, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { CryoboxError, errnoOf, messageOf } from '../errors.js';

/** Where everything of a home is. Nothing outside this table knows a file name of the home. */
export interface HomePaths {
  readonly root: string;
  readonly database: string;
  readonly lock: string;
  readonly socket: string;
  readonly engineLog: string;
  /** Immutable layers and heads, by id. */
  readonly layers: string;
  /** Private directories of running machines, by id. */
  readonly machines: string;
  /** What is kept of a box beside its layers, by id. */
  readonly boxes: string;
  /** Blobs of images. */
  readonly images: string;
  /** How registries are reached; made by the user. */
  readonly registries: string;
  /** Kernel, initramfs and guard as machines use them, by content. */
  readonly guest: string;
  /** Work in progress; emptied when the engine starts. */
  readonly scratch: string;
}

/** The home a user gets without saying otherwise: `CRYOBOX_HOME`, else `~/.cryobox`. */
export function defaultHome(): string {
  return process.env.CRYOBOX_HOME ?? join(homedir(), '.cryobox');
}

/** Where everything of the home at `root` is; touches nothing. */
export function homePaths(root: string): HomePaths {
  const base = isAbsolute(root) ? root : resolve(root);
  const at = (name: string): string => join(base, name);
  return {
    root: base,
    database: at('cryobox.db'),
    lock: at('engine.lock'),
    socket: at('engine.sock'),
    engineLog: at('engine.log'),
    layers: at('layers'),
    machines: at('machines'),
    boxes: at('boxes'),
    images: at('images'),
    registries: at('registries.json'),
    guest: at('guest'),
    scratch: at('scratch'),
  };
}

/**
 * Makes the folders of a home, readable by its owner only. Throws `config_error` when the home belongs to another
 * user or cannot be made, `disk_full`.
 */
export async function prepareHome(paths: HomePaths): Promise<void> {
  try {
    await mkdir(paths.root, { recursive: true, mode: 0o700 });
    await requireOwner(paths.root);
    await chmod(paths.root, 0o700);
    for (const folder of [
      paths.layers,
      paths.machines,
      paths.boxes,
      paths.images,
      paths.guest,
      paths.scratch,
    ]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
    }
  } catch (error) {
    if (error instanceof CryoboxError) throw error;
    const code = errnoOf(error) === 'ENOSPC' ? 'disk_full' : 'config_error';
    throw new CryoboxError(code, `cannot use ${paths.root} as home: ${messageOf(error)}`, {
      cause: error,
      hint: 'Set CRYOBOX_HOME to a directory you may write, on a file system with hard links.',
    });
  }
}

async function requireOwner(root: string): Promise<void> {
  const { uid } = await stat(root);
  const me = process.getuid?.();
  if (uid === me) return;
  throw new CryoboxError('config_error', `${root} belongs to user ${uid}, and this is user ${me}`, {
    hint: 'Run as the owner of the home, or set CRYOBOX_HOME to a directory of your own.',
  });
}
