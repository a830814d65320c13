import { randomUUID } from 'node:crypto';
import { link, lstat, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { CallOptions } from '../api/index.js';
import { throwIfCancelled } from '../base/abort.js';
import { ifExists, readFully, syncDirectory, writeFully } from '../base/files.js';
import { ownEntries } from '../base/own-entries.js';
import { CryoboxError, errnoOf, isCryoboxError, wrapHostError } from '../errors.js';
import { damagedObject, noObject, objectExists } from './failures.js';
import { checkKey, checkPrefix, checkRange, checkSize } from './keys.js';
import {
  type ListOptions,
  type ObjectFacts,
  type ObjectPage,
  type ObjectSource,
  type ObjectStore,
  objectLimits,
  type PutOptions,
  type ReadOptions,
} from './object-store.js';
import { piecesOf } from './sources.js';

/** Folder of what is not whole yet: no key begins with a dot. */
const partialFolder = '.partial';
const partialName = /^[0-9a-f-]{36}$/;

/**
 * Objects as files of a directory, on a local disk or a file system of the network that has hard links: a file is written
 * beside, made durable, and then gets its name.
 */
export class DirectoryStore implements ObjectStore {
  readonly name: string;
  readonly #root: string;

  /** Uses a directory, which is made by the first put. */
  constructor(root: string) {
    this.#root = root;
    this.name = root;
  }

  async put(key: string, source: ObjectSource, options: PutOptions = {}): Promise<void> {
    checkKey(key);
    checkSize(key, source.sizeBytes);
    const { ifAbsent = false, signal } = options;
    const path = join(this.#root, key);
    const partial = join(this.#root, partialFolder, randomUUID());
    await this.#typed(`putting ${key}`, async () => {
      await mkdir(dirname(partial), { recursive: true, mode: 0o700 });
      await this.#makeFolder(dirname(path));
      try {
        await write(partial, source, signal);
        if (ifAbsent) {
          await link(partial, path).catch((error: unknown) => {
            throw errnoOf(error) === 'EEXIST' ? objectExists(this.name, key) : error;
          });
        } else await rename(partial, path);
        await syncDirectory(dirname(path));
      } finally {
        await rm(partial, { force: true });
      }
    });
  }

  async read(key: string, { offset = 0, length, atMost = false, signal }: ReadOptions): Promise<Buffer> {
    checkKey(key);
    checkRange(offset, length);
    throwIfCancelled(signal, `reading ${key}`);
    return await this.#typed(`reading ${key}`, async () => {
      const file = await ifExists(open(join(this.#root, key), 'r'));
      if (!file) throw noObject(this.name, key);
      try {
        const bytes = Buffer.allocUnsafe(length);
        const got = await readFully(file, bytes, offset);
        if (got < length && !atMost) throw damagedObject(this.name, key, `ends ${length - got} bytes early`);
        return bytes.subarray(0, got);
      } finally {
        await file.close();
      }
    });
  }

  async head(key: string, { signal }: CallOptions = {}): Promise<ObjectFacts | undefined> {
    checkKey(key);
    throwIfCancelled(signal, `looking at ${key}`);
    return await this.#typed(`looking at ${key}`, async () => {
      const facts = await ifExists(stat(join(this.#root, key)));
      return facts?.isFile() ? { key, sizeBytes: facts.size, modifiedAt: facts.mtime } : undefined;
    });
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ObjectPage> {
    checkPrefix(prefix);
    const { after = '', limit = objectLimits.listed, signal } = options;
    return await this.#typed(`listing ${prefix}`, async () => {
      const objects: ObjectFacts[] = [];
      for await (const facts of this.#walk('', prefix, after)) {
        throwIfCancelled(signal, `listing ${prefix}`);
        if (objects.length === limit) return { objects, next: objects.at(-1)?.key };
        objects.push(facts);
      }
      return { objects, next: undefined };
    });
  }

  async remove(keys: readonly string[], { signal }: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    await this.#typed('removing objects', async () => {
      for (const key of keys) {
        throwIfCancelled(signal, 'removing objects');
        await rm(join(this.#root, key), { force: true });
      }
    });
  }

  async abortUploads({ olderThanMs }: { readonly olderThanMs: number }): Promise<number> {
    const folder = join(this.#root, partialFolder);
    return await this.#typed('giving up what was begun', async () => {
      let given = 0;
      for (const name of await ownEntries(folder, (it) => partialName.test(it))) {
        const facts = await ifExists(lstat(join(folder, name)));
        if (!facts || Date.now() - facts.mtimeMs < olderThanMs) continue;
        await rm(join(folder, name), { force: true });
        given += 1;
      }
      return given;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is held open between calls.
  }

  /** Makes a folder and what is above it; the name of each lasts like the files in it. */
  async #makeFolder(folder: string): Promise<void> {
    const first = await mkdir(folder, { recursive: true, mode: 0o700 });
    for (let made = folder; first !== undefined && made.length >= first.length; made = dirname(made)) {
      await syncDirectory(dirname(made));
    }
  }

  /** Objects below a folder, whose key ends with `/`, in the order of their keys. */
  async *#walk(folder: string, prefix: string, after: string): AsyncGenerator<ObjectFacts> {
    const entries = (await ifExists(readdir(join(this.#root, folder), { withFileTypes: true }))) ?? [];
    const keys = entries
      .filter((it) => !it.name.startsWith('.') && (it.isFile() || it.isDirectory()))
      // With the slash that all keys below have: `a-b` comes before `a/b`.
      .map((it) => `${folder}${it.name}${it.isDirectory() ? '/' : ''}`)
      .sort((a, b) => (a < b ? -1 : 1));
    for (const key of keys) {
      if (key.endsWith('/')) {
        const mayHold = key.startsWith(prefix) || prefix.startsWith(key);
        if (mayHold && (key > after || after.startsWith(key))) yield* this.#walk(key, prefix, after);
      } else if (key.startsWith(prefix) && key > after) {
        const facts = await ifExists(stat(join(this.#root, key)));
        if (facts) yield { key, sizeBytes: facts.size, modifiedAt: facts.mtime };
      }
    }
  }

  async #typed<T>(what: string, task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (error) {
      if (isCryoboxError(error)) throw error;
      const typed = wrapHostError(error, `${what} in ${this.name}`);
      if (typed.code !== 'disk_full') throw typed;
      const hint = `Free space on the file system of ${this.name}, or name another store.`;
      throw new CryoboxError('disk_full', typed.message, { cause: error, hint });
    }
  }
}

async function write(path: string, source: ObjectSource, signal: AbortSignal | undefined): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    for await (const piece of piecesOf(source, 2 ** 20)) {
      throwIfCancelled(signal, 'putting an object');
      await writeFully(file, piece, null);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
