import type { Box } from '../api/index.js';
import { isCryoboxError } from '../errors.js';

/** Who logs in: a user of the box. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
  /** As executions name a user. */
  readonly user: string;
}

interface Entry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/**
 * The account of a name: a user of the box's /etc/passwd by name or uid, root, or any uid, as executions take them. Null
 * when there is none. Starts a box that does not run, when its `autoResume` allows.
 */
export async function findAccount(box: Box, name: string, signal?: AbortSignal): Promise<Account | null> {
  const entries = await passwd(box, signal);
  const uid = /^\d{1,10}$/.test(name) ? Number(name) : undefined;
  const found =
    entries.find((entry) => entry.name === name) ??
    entries.find((entry) => entry.uid === uid) ??
    withoutEntry(name, uid);
  if (!found) return null;
  const { user } = await box.info({ signal });
  // The box's own user may come with a group of its own.
  const isOwn = [found.name, String(found.uid)].includes(user.split(':')[0] ?? '');
  return { ...found, user: isOwn ? user : found.name };
}

/** A name that OpenSSH takes for the user that commands of the box run as. */
export function accountName(user: string): string {
  return user.split(':')[0] || 'root';
}

function withoutEntry(name: string, uid: number | undefined): Entry | undefined {
  if (name !== 'root' && uid === undefined) return undefined;
  return { name, uid: uid ?? 0, gid: 0, home: '/', shell: defaultShell };
}

const defaultShell = '/bin/sh';

async function passwd(box: Box, signal: AbortSignal | undefined): Promise<readonly Entry[]> {
  const path = '/etc/passwd';
  let text: string;
  try {
    text = (await box.files.read(path, { signal })).toString('utf8');
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return [];
    throw error;
  }
  return text.split('\n').flatMap((line) => {
    const [name = '', , uid = '', gid = '', , home = '', shell = ''] = line.split(':');
    if (name === '' || !/^\d+$/.test(uid) || !/^\d+$/.test(gid)) return [];
    const place = home.startsWith('/') ? home : '/';
    return [{ name, uid: Number(uid), gid: Number(gid), home: place, shell: shell || defaultShell }];
  });
}
