/**
 * Names of what is not a whole blob yet, in `partial/`: `HEX` is a part that nobody writes and a download may go on with,
 * `HEX.PID-RUN` one that a process writes, and `new-UUID` a blob whose digest is not known yet. A process writes under a
 * name of its own only, and takes a part over by renaming it, so that no two ever write one file.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ifExists } from '../base/files.js';
import { errnoOf } from '../errors.js';

/** Tells this process from an earlier one with its number, as the first process of a container always has. */
const run = randomBytes(4).toString('hex');
const partName = /^[0-9a-f]{64}(\.\d+-[0-9a-f]{8})?$/;
const unknownName = /^new-[0-9a-f-]{36}$/;

/** Whether a name in the folder of parts is one of ours. */
export function isPartName(name: string): boolean {
  return partName.test(name) || unknownName.test(name);
}

/** A name for a blob whose digest is not known yet. */
export function unknownPart(): string {
  return `new-${randomUUID()}`;
}

/** The name under which this process writes a blob. One writer of a blob at a time may use it. */
export function ownPart(hex: string): string {
  return `${hex}.${process.pid}-${run}`;
}

/** Takes over what was begun of a blob by nobody who still lives, if anything was; it then has the name of {@link ownPart}. */
export async function takePart(folder: string, hex: string): Promise<void> {
  for (const name of await leftParts(folder, hex)) {
    if (await renamed(join(folder, name), join(folder, ownPart(hex)))) return;
  }
}

/** Leaves what this process has written of a blob to who goes on with it. */
export async function leavePart(folder: string, hex: string): Promise<void> {
  await renamed(join(folder, ownPart(hex)), join(folder, hex));
}

/** Removes what was begun of a blob by nobody who still lives. */
export async function dropParts(folder: string, hex: string): Promise<void> {
  for (const name of await leftParts(folder, hex)) await rm(join(folder, name), { force: true });
}

async function leftParts(folder: string, hex: string): Promise<string[]> {
  const names = (await ifExists(readdir(folder))) ?? [];
  const parts = names.filter((name) => partName.test(name) && name.startsWith(hex));
  const isLeft = await Promise.all(parts.map(async (name) => !(await isWritten(name))));
  return parts.filter((_, index) => isLeft[index]);
}

/** Whether a process may still be writing a part. */
async function isWritten(name: string): Promise<boolean> {
  const [pid, writer] = name.split('.')[1]?.split('-') ?? [];
  if (pid === undefined) return false;
  if (Number(pid) === process.pid) return writer === run;
  return (await ifExists(lstat(`/proc/${pid}`))) !== undefined;
}

/** Renames a file unless another process was faster. */
async function renamed(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
