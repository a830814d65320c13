import { posix } from 'node:path';
import type { Files } from '../../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../../errors.js';

/** Who asks when a request names nobody. */
export const defaultUser = 'user';

/** A user of a box, from its /etc/passwd (passwd(5)). */
export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/** Users and groups of a box. */
export interface Names {
  user(name: string): User | undefined;
  /** The name of a user by number; the number when it has none. */
  owner(uid: number): string;
  /** The name of a group by number; the number when it has none. */
  group(gid: number): string;
}

async function linesOf(files: Files, path: string): Promise<string[][]> {
  try {
    return (await files.read(path))
      .toString()
      .split('\n')
      .map((line) => line.split(':'));
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return [];
    throw error;
  }
}

/** Reads the users and groups of a box. */
export async function namesOf(files: Files): Promise<Names> {
  const [passwd, group] = await Promise.all([linesOf(files, '/etc/passwd'), linesOf(files, '/etc/group')]);
  const users = passwd
    .filter((fields) => fields.length >= 7)
    .map(([name = '', , uid, gid, , home]) => ({
      name,
      uid: Number(uid),
      gid: Number(gid),
      home: home || '/',
    }));
  const groups = new Map(group.map(([name = '', , gid]) => [Number(gid), name]));
  return {
    user: (name) => users.find((user) => user.name === name),
    owner: (uid) => users.find((user) => user.uid === uid)?.name ?? String(uid),
    group: (gid) => groups.get(gid) ?? String(gid),
  };
}

/** The user a request is made as, by its name. Throws `user_not_found`. */
export async function requireUser(files: Files, name: string): Promise<User> {
  const user = (await namesOf(files)).user(name);
  if (user) return user;
  throw new CryoboxError('user_not_found', `invalid username: '${name}'`);
}

/** The user of an `Authorization: Basic` header, which has no password (RFC 7617). */
export function userNameOf(authorization: string | undefined): string {
  const encoded = /^Basic +(\S+)$/i.exec(authorization ?? '')?.[1];
  const name = Buffer.from(encoded ?? '', 'base64')
    .toString()
    .split(':')[0];
  return name || defaultUser;
}

/** An absolute path: `~` and what is relative begin at the user's home. */
export function resolvePath(path: string, { home }: Pick<User, 'home'>): string {
  const below = path === '~' || path.startsWith('~/') ? path.slice(2) : path;
  return posix.resolve(home, below);
}
