import { copyFile, stat, truncate } from 'node:fs/promises';
import { ifExists } from '../base/files.js';

/** Size at which the log of a background engine is put aside; it is for looking into what went wrong lately. */
const defaultMaxBytes = 16 * 1024 * 1024;
const lookEveryMs = 60_000;

/**
 * Puts a log aside as `PATH.1` once it is over its size, and empties it. Who writes it has it open for appending, and
 * goes on at its beginning; lines written in the moment between may be lost.
 */
export async function capLog(path: string, maxBytes = defaultMaxBytes): Promise<void> {
  const facts = await ifExists(stat(path));
  if (!facts?.isFile() || facts.size <= maxBytes) return;
  await copyFile(path, `${path}.1`);
  await truncate(path, 0);
}

/** Caps a log now and from then on, until it is disposed of. A log that cannot be capped goes on as it is. */
export function keepLogSmall(path: string): Disposable {
  const look = (): void => {
    capLog(path).catch(() => undefined);
  };
  look();
  const timer = setInterval(look, lookEveryMs).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
