import { readFileSync } from 'node:fs';
import type { SecretOptions } from '../api/index.js';
import { CryoboxError, messageOf } from '../errors.js';

/** A secret of the command line. */
export interface GivenSecret {
  readonly name: string;
  readonly value: string;
  /** Absent: none was named. */
  readonly hosts?: readonly string[];
}

const form = 'NAME@HOST[,HOST], with the value in our variable NAME; or NAME=FILE@HOST[,HOST]';

/**
 * `NAME@HOST[,HOST]` with the value in our environment, or `NAME=FILE@HOST[,HOST]` with the value in a file, whose last line
 * break is no part of it: what stands on a command line is seen by everybody on the host. Throws `invalid_argument`.
 */
export function parseSecret(raw: string): GivenSecret {
  const [, name, file, hosts] = /^([A-Za-z_][A-Za-z0-9_]*)(?:=([^@]+))?(?:@([^@]+))?$/.exec(raw) ?? [];
  if (name === undefined) {
    // What was given may hold the value.
    throw new CryoboxError('invalid_argument', `a secret is written ${form}`);
  }
  const value = file === undefined ? process.env[name] : contentOf(file);
  if (value === undefined) {
    throw new CryoboxError(
      'invalid_argument',
      `the secret ${name} has no value: our variable ${name} is not set`,
      {
        hint: `Write ${form}.`,
      },
    );
  }
  return { name, value, ...(hosts === undefined ? {} : { hosts: hosts.split(',') }) };
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw new CryoboxError('invalid_argument', `cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}

/** Secrets of a new box. Throws `invalid_argument` for one without hosts. */
export function secretOptions(
  given: readonly GivenSecret[],
): Readonly<Record<string, SecretOptions>> | undefined {
  if (given.length === 0) return undefined;
  return Object.fromEntries(
    given.map(({ name, value, hosts }) => {
      if (hosts) return [name, { value, hosts }];
      throw new CryoboxError('invalid_argument', `the secret ${name} names no host`, {
        hint: `Write ${form}.`,
      });
    }),
  );
}
