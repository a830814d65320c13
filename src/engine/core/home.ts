import { join, resolve } from 'node:path';
import { environmentValue, userHome } from '../../base/environment.js';
import { CryoboxError } from '../../errors.js';

/** Where everything of a home is. Nothing outside this table knows a file name of the home. */
export interface HomePaths {
  readonly root: string;
  /** Says that the directory is a home, so that nobody else's files are ever taken for one. */
  readonly marker: string;
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
  /** What boxes with lists may reach; made by the user. */
  readonly network: string;
  /** What values of secrets are encrypted with; made when there is the first one. */
  readonly secretsKey: string;
  /** The authority that boxes with secrets trust, and its key; made when there is the first such box. */
  readonly authority: string;
  readonly authorityKey: string;
  /** Where the process that puts secrets in runs. */
  readonly interceptor: string;
  /** Kernel, initramfs and guard as machines use them, by content. */
  readonly guest: string;
  /** Work in progress; emptied when the engine starts. */
  readonly scratch: string;
}

/** The home a user gets without saying otherwise: `CRYOBOX_HOME`, else `~/.cryobox`. */
export function defaultHome(): string {
  return environmentValue('CRYOBOX_HOME') ?? join(userHome(), '.cryobox');
}

/**
 * Where everything of the home at `root` is; touches nothing. A relative path is one from the current directory.
 * Throws `invalid_argument` for a path that is empty or that no directory can have.
 */
export function homePaths(root: string): HomePaths {
  if (typeof root !== 'string' || root === '' || root.includes('\0')) {
    throw new CryoboxError('invalid_argument', `home must be a path, got ${JSON.stringify(root)}`, {
      hint: 'Name a directory, or leave it out for CRYOBOX_HOME, else ~/.cryobox.',
    });
  }
  const base = resolve(root);
  const at = (name: string): string => join(base, name);
  return {
    root: base,
    marker: at('cryobox.json'),
    database: at('cryobox.db'),
    lock: at('engine.lock'),
    socket: at('engine.sock'),
    engineLog: at('engine.log'),
    layers: at('layers'),
    machines: at('machines'),
    boxes: at('boxes'),
    images: at('images'),
    registries: at('registries.json'),
    network: at('network.json'),
    secretsKey: at('secrets.key'),
    authority: at('ca.pem'),
    authorityKey: at('ca.key'),
    interceptor: at('interceptor'),
    guest: at('guest'),
    scratch: at('scratch'),
  };
}
