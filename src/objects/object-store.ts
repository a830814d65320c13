import type { CallOptions } from '../api/index.js';

/** Bytes of an object that is put. They may be read more than once: a part is sent again after a failure. */
export interface ObjectSource {
  readonly sizeBytes: number;
  /** Exactly these bytes; `length` is at most {@link objectLimits.partBytes}. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** What a store says of an object. */
export interface ObjectFacts {
  readonly key: string;
  readonly sizeBytes: number;
  /** By the clock of the store. */
  readonly modifiedAt: Date;
}

/** A page of a listing, in the order of the bytes of the keys. */
export interface ObjectPage {
  readonly objects: readonly ObjectFacts[];
  /** What the next page comes `after`; undefined at the end. */
  readonly next: string | undefined;
}

/** Options of {@link ObjectStore.put}. */
export interface PutOptions extends CallOptions {
  /** Refuse to replace an object: `already_exists`. Decided by the store, so one of many callers wins. @default false */
  readonly ifAbsent?: boolean;
}

/** Which bytes of an object. */
export interface ReadOptions extends CallOptions {
  /** @default 0 */
  readonly offset?: number;
  /** At most {@link objectLimits.readBytes}. */
  readonly length: number;
  /** Take fewer where the object ends; without it that is `integrity`. @default false */
  readonly atMost?: boolean;
}

/** Which objects. */
export interface ListOptions extends CallOptions {
  /** Only keys that come after this one. */
  readonly after?: string;
  /** At most {@link objectLimits.listed}. @default 1000 */
  readonly limit?: number;
}

/** Puts and reads objects whose keys are known. */
export interface ObjectAccess {
  /** How messages name the store: without secrets. */
  readonly name: string;
  /**
   * Puts a whole object: whoever reads sees what was there before or all of it, never a part. Throws `already_exists`,
   * `disk_full`, `config_error` when the store refuses the caller, `upstream_unavailable` when it does not answer,
   * `cancelled`, and what the source throws.
   */
  put(key: string, source: ObjectSource, options?: PutOptions): Promise<void>;
  /** Reads a range. Throws `not_found`, `integrity` for an object that ends before, and as {@link ObjectAccess.put} does. */
  read(key: string, options: ReadOptions): Promise<Buffer>;
}

/** Bytes by key. Objects are whole and are never changed in part. Every method throws as {@link ObjectAccess} says. */
export interface ObjectStore extends ObjectAccess, AsyncDisposable {
  /** What the store says of an object; undefined when there is none. */
  head(key: string, options?: CallOptions): Promise<ObjectFacts | undefined>;
  /** Objects whose keys begin with `prefix`. */
  list(prefix: string, options?: ListOptions): Promise<ObjectPage>;
  /** Removes objects; those that are not there are as removed. Any number of keys. */
  remove(keys: readonly string[], options?: CallOptions): Promise<void>;
  /** Gives up what was begun to be put and not ended for so long; returns how many there were. */
  abortUploads(options: CallOptions & { readonly olderThanMs: number }): Promise<number>;
}

const mib = 2 ** 20;

/** The limits of every store, each with its reason. */
export const objectLimits = {
  /** S3 has 1024 bytes; a name of a file has 255, which holds for each part of a key. */
  keyLength: 512,
  /** What is held in memory for one request; S3 takes parts from 5 MiB on. */
  partBytes: 16 * mib,
  /** Parts of one object under way at once: 48 MiB of memory. */
  partsAtOnce: 3,
  /** S3 takes 10,000 parts. */
  objectBytes: 10_000 * 16 * mib,
  readBytes: 16 * mib,
  /** S3 lists and removes so many at once. */
  listed: 1_000,
  /** Attempts of one request that fail in a way that may pass. */
  attempts: 5,
  /** Between two attempts: random below the first, which doubles up to the longest. */
  firstPauseMs: 100,
  longestPauseMs: 5_000,
  /** One attempt: 16 MiB at 300 kB/s. */
  attemptMs: 60_000,
} as const;
