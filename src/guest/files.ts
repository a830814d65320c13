import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { z } from 'zod';
import { CryoboxError } from '../errors.js';
import { brokenAgent, checkedAnswer, fileInfo, linkAnswer, tarResult, watchEvent } from './answers.js';
import type { AgentConnection, Answer, RequestOptions } from './connection.js';
import { linesOf } from './json-lines.js';
import type { GuestReadable } from './streams.js';

/** A file as the guest describes it. */
export type FileInfo = Readonly<z.infer<typeof fileInfo>>;

/** How a file is written. */
export interface WriteFileOptions {
  /** Permission bits; default those of the file replaced, else 0o644. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Add to the end instead of replacing the whole. */
  readonly append?: boolean;
  /** Make missing directories. */
  readonly createParents?: boolean;
}

/** How a tree is packed. */
export interface PackOptions {
  /** Put what links lead to in their place; default false: links stay links. */
  readonly followSymlinks?: boolean;
  /** One top entry with the base name; default false: a directory's content as `./...`. */
  readonly includeParent?: boolean;
}

/** How an archive is unpacked. */
export interface UnpackOptions {
  /** Replace files that exist; default true. */
  readonly overwrite?: boolean;
  /** An archive of exactly one file is written to the path itself, unless that is a directory or ends in a slash. */
  readonly renameSingle?: boolean;
  /** Give files the owners of the archive; default false: root. */
  readonly keepOwner?: boolean;
}

/** What was packed or unpacked. */
export type TarResult = Readonly<z.infer<typeof tarResult>>;

/** A tar stream from the guest, and what it held once it has been read to its end. */
export interface PackStream {
  readonly stream: Readable;
  readonly result: Promise<TarResult>;
}

/** What is told of a watched directory. */
export type WatchEvent = Readonly<z.infer<typeof watchEvent>>;

/** A directory that is watched. */
export interface GuestWatch {
  /** What happens, as it happens; to be read once. */
  readonly events: AsyncIterable<WatchEvent>;
  /** Resolves when the guest watches no more. Never rejects. */
  readonly ended: Promise<void>;
  /** Ends it. */
  close(): void;
}

/** Bytes to send. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * Files of one guest. Paths are absolute. Errors: `not_found`, `already_exists`, `permission_denied`,
 * `invalid_argument`, `invalid_state`, `disk_full`, `storage_error`, each with the path, and those of the connection.
 */
export class AgentFiles {
  readonly #connection: AgentConnection;

  constructor(connection: AgentConnection) {
    this.#connection = connection;
  }

  /** Describes a file; `follow` looks behind a symbolic link. */
  async stat(path: string, options: { follow?: boolean } & RequestOptions = {}): Promise<FileInfo> {
    const { follow = false, ...request } = options;
    return checkedAnswer(fileInfo, await this.#call('fs.stat', { path, follow }, request), 'fs.stat');
  }

  /** The entries of a directory, as they come, in no order. */
  async *list(path: string, options?: RequestOptions): AsyncGenerator<FileInfo, void> {
    const { stream, answer } = this.#download('fs.list', { path }, options);
    yield* linesOf(stream, fileInfo, 'fs.list');
    await answer;
  }

  /** The content of a file, or `lengthBytes` of it from `offsetBytes` on. Errors come by reading. */
  read(
    path: string,
    options: { offsetBytes?: number; lengthBytes?: number } & RequestOptions = {},
  ): Readable {
    const { offsetBytes, lengthBytes, ...request } = options;
    return this.#download('fs.read', { path, offset: offsetBytes, length: lengthBytes }, request).stream;
  }

  /** Writes a file; readers in the guest see the old content or the new. Returns the bytes written. */
  async write(
    path: string,
    source: ByteSource,
    options: WriteFileOptions & RequestOptions = {},
  ): Promise<number> {
    const { signal, timeoutMs, payload: _, ...args } = options;
    const answer = await this.#upload('fs.write', { path, ...args }, source, { signal, timeoutMs });
    return checkedAnswer(tarResult.pick({ bytes: true }), answer, 'fs.write').bytes;
  }

  /** Makes a directory; `recursive` also its parents, and one that exists is fine. */
  async makeDirectory(
    path: string,
    options: { recursive?: boolean; mode?: number } & RequestOptions = {},
  ): Promise<void> {
    const { recursive, mode, ...request } = options;
    await this.#call('fs.mkdir', { path, recursive, mode }, request);
  }

  /** Removes a file, an empty directory, or with `recursive` a tree; `force` does not mind that it is not there. */
  async remove(
    path: string,
    options: { recursive?: boolean; force?: boolean } & RequestOptions = {},
  ): Promise<void> {
    const { recursive, force, ...request } = options;
    await this.#call('fs.remove', { path, recursive, force }, request);
  }

  /** Renames; with `overwrite` in the place of what is there. */
  async rename(
    path: string,
    to: string,
    options: { overwrite?: boolean } & RequestOptions = {},
  ): Promise<void> {
    const { overwrite, ...request } = options;
    await this.#call('fs.rename', { path, to, overwrite }, request);
  }

  /** Sets permission bits. */
  async changeMode(path: string, mode: number, options?: RequestOptions): Promise<void> {
    await this.#call('fs.chmod', { path, mode }, options);
  }

  /** Sets owner, group or both; `follow` those of what a link leads to. */
  async changeOwner(
    path: string,
    options: { uid?: number; gid?: number; follow?: boolean } & RequestOptions,
  ): Promise<void> {
    const { uid, gid, follow, ...request } = options;
    await this.#call('fs.chown', { path, uid, gid, follow }, request);
  }

  /** Makes a symbolic link at `path` that leads to `target`. */
  async makeSymlink(path: string, target: string, options?: RequestOptions): Promise<void> {
    await this.#call('fs.symlink', { path, target }, options);
  }

  /** Where a symbolic link leads. */
  async readSymlink(path: string, options?: RequestOptions): Promise<string> {
    const answer = await this.#call('fs.readlink', { path }, options);
    return checkedAnswer(linkAnswer, answer, 'fs.readlink').target;
  }

  /** Watches a directory; what happens from then on is told. `recursive`: also in the directories below. */
  async watch(path: string, options: { recursive?: boolean } & RequestOptions = {}): Promise<GuestWatch> {
    const { recursive = false, ...request } = options;
    const { stream, answer } = this.#download('fs.watch', { path, recursive }, request);
    const events = linesOf(stream, watchEvent, 'fs.watch');
    const first = await events.next();
    if (first.done || first.value.type !== 'started') throw brokenAgent('fs.watch did not begin');
    const ended = answer.then(
      () => undefined,
      () => undefined,
    );
    return { events, ended, close: () => stream.destroy() };
  }

  /** A file or tree as a tar stream. */
  pack(path: string, options: PackOptions & RequestOptions = {}): PackStream {
    const { signal, timeoutMs, payload: _, ...args } = options;
    const { stream, answer } = this.#download('tar.pack', { path, ...args }, { signal, timeoutMs });
    const result = answer.then((ok) => checkedAnswer(tarResult, ok, 'tar.pack'));
    // Who stops reading does not ask for it.
    result.catch(() => undefined);
    return { stream, result };
  }

  /** Unpacks a tar stream at a path; no entry can leave it. */
  async unpack(
    path: string,
    source: ByteSource,
    options: UnpackOptions & RequestOptions = {},
  ): Promise<TarResult> {
    const { signal, timeoutMs, payload: _, ...args } = options;
    const answer = await this.#upload('tar.unpack', { path, ...args }, source, { signal, timeoutMs });
    return checkedAnswer(tarResult, answer, 'tar.unpack');
  }

  #call(op: string, args: Record<string, unknown>, options?: RequestOptions): Promise<Answer> {
    return this.#connection.request(op, args, options);
  }

  /** Moving bytes takes as long as it takes: there is no time limit unless one is asked for. */
  #download(
    op: string,
    args: Record<string, unknown>,
    options: RequestOptions = {},
  ): { stream: GuestReadable; answer: Promise<Answer> } {
    const stream = this.#connection.newReadable();
    const left = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    const answer = this.#call(
      op,
      { ...args, stream: stream.id },
      { ...options, signal, timeoutMs: options.timeoutMs ?? 0 },
    );
    // As in an upload.
    answer.catch((error: CryoboxError) => stream.destroy(error));
    // Who leaves before the end waits for no answer either: an agent that gives none is not waited for.
    stream.once('close', () => {
      if (!stream.readableEnded) left.abort();
    });
    return { stream, answer };
  }

  async #upload(
    op: string,
    args: Record<string, unknown>,
    source: ByteSource,
    options: RequestOptions,
  ): Promise<Answer> {
    const stream = this.#connection.newWritable();
    const answer = this.#call(
      op,
      { ...args, stream: stream.id },
      { ...options, timeoutMs: options.timeoutMs ?? 0 },
    );
    // Also resets the stream, unless that has ended: the agent may still wait for it.
    answer.catch((error: CryoboxError) => stream.destroy(error));
    const sent = pipeline(source, stream);
    let broken: { readonly cause: unknown } | undefined;
    sent.catch((cause: unknown) => {
      if (!(cause instanceof CryoboxError)) broken = { cause };
    });
    try {
      const answered = await answer;
      await sent;
      return answered;
    } catch (error) {
      // The agent knows better than its closed stream why; but a source that failed is the reason itself. A source
      // that hangs is not waited for.
      throw broken ? broken.cause : error;
    }
  }
}
