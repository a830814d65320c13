import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../errors.js';
import { faultPoint } from './faults.js';

/** Makes what was created, renamed or removed in a directory durable. */
export async function syncDirectory(directory: string): Promise<void> {
  await sync(directory);
}

/** Makes a file's content durable. */
export async function syncFile(path: string): Promise<void> {
  await sync(path);
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    faultPoint('sync:before');
    await handle.sync();
    faultPoint('sync:after');
  } finally {
    await handle.close();
  }
}

/**
 * Writes a small file so that a reader, or a crash, sees the old content or the new one and nothing between:
 * a temporary file beside it, fsync, rename, fsync of the directory.
 */
export async function writeFileDurably(
  path: string,
  content: string | Uint8Array,
  mode = 0o600,
): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, 'w', mode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * Reads from a position until `target` is full or the file ends. Returns the bytes read: fewer only where the file ends.
 * A single read may give fewer at any time.
 */
export async function readFully(file: FileHandle, target: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/**
 * Writes all of the bytes at a position, or with null where the last write ended. A single write may take fewer at any
 * time. Throws what the host throws.
 */
export async function writeFully(
  file: FileHandle,
  bytes: Uint8Array,
  position: number | null,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const at = position === null ? null : position + done;
    done += (await file.write(bytes, done, bytes.length - done, at)).bytesWritten;
  }
}

/** What `task` returns, or undefined where the file it needs does not exist. */
export async function ifExists<T>(task: Promise<T>): Promise<T | undefined> {
  try {
    return await task;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
