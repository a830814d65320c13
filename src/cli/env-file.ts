import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { messageOf } from '../errors.js';

/**
 * The variables of a file of `KEY=VALUE` lines, as container tools read it: values are taken as they stand, quotes
 * included; a lone KEY takes its value from this process, and is left out when it has none; `#` begins a comment line.
 */
export function parseEnvFile(path: string): readonly (readonly [string, string])[] {
  return readText(path)
    .split(/\r?\n/)
    .flatMap((line, at) => parseLine(line.trimStart(), `${path}, line ${at + 1}`));
}

function parseLine(line: string, where: string): readonly (readonly [string, string])[] {
  if (line === '' || line.startsWith('#')) return [];
  const at = line.indexOf('=');
  const key = at < 0 ? line : line.slice(0, at);
  if (key === '' || /\s/.test(key)) {
    throw new InvalidArgumentError(
      `Expected KEY=VALUE in ${where}, got ${JSON.stringify(line.slice(0, 60))}.`,
    );
  }
  const value = at < 0 ? process.env[key] : line.slice(at + 1);
  return value === undefined ? [] : [[key, value]];
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/^\ufeff/, '');
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be read: ${messageOf(error)}.`);
  }
}
