import { homedir, userInfo } from 'node:os';
import { isAbsolute } from 'node:path';
import { CryoboxError } from '../errors.js';

/**
 * What an environment variable is set to; undefined when it is not set, or set to nothing. `NAME= command` is how a
 * shell takes a setting back, and an empty path would mean the current directory.
 */
export function environmentValue(name: string): string | undefined {
  return process.env[name] || undefined;
}

/**
 * The user's home directory, an absolute path: `HOME`, else what the system says of the user. Throws `config_error` when
 * neither says it.
 */
export function userHome(): string {
  const home = homedir();
  if (isAbsolute(home)) return home;
  try {
    return userInfo().homedir;
  } catch (error) {
    throw new CryoboxError('config_error', 'this user has no home directory', {
      cause: error,
      hint: 'Set HOME to a directory of your own.',
    });
  }
}

/** A directory an environment variable names; undefined when it names none, or a relative path where one is not allowed. */
export function absoluteDirectory(name: string): string | undefined {
  const path = environmentValue(name);
  return path !== undefined && isAbsolute(path) ? path : undefined;
}
