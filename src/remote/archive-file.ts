import { randomBytes } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { ByteSource } from '../api/index.js';
import { ifExists } from '../base/files.js';
import { wrapHostError } from '../errors.js';

/** Where an export goes: the path itself, or `<name>.boxsnap` in a directory. */
async function targetOf(destination: string, name: string): Promise<string> {
  const path = resolve(destination);
  const existing = await ifExists(stat(path));
  return existing?.isDirectory() || destination.endsWith('/')
    ? join(path, `${basename(name)}.boxsnap`)
    : path;
}

/** Writes an archive beside its place and renames it when it is whole and durable. Returns its path. */
export async function saveArchive(
  bytes: ByteSource,
  destination: string,
  name: string,
  onBytes: (total: number) => void,
): Promise<string> {
  const target = await targetOf(destination, name);
  const temporary = `${target}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    let total = 0;
    try {
      for await (const chunk of bytes) {
        await file.writeFile(chunk);
        total += chunk.length;
        onBytes(total);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw wrapHostError(error, `Writing ${target}`);
  }
  return target;
}
