import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ProgressOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { faultPoint } from '../../base/faults.js';
import { syncDirectory } from '../../base/files.js';
import { newId } from '../../base/ids.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { ARCHIVE_VERSION, isMemberName, MANIFEST_NAME, MAX_MEMBERS } from './format.js';
import { type ArchiveFacts, type ArchiveMember, encodeManifest, type Manifest } from './manifest.js';
import { encodeSeal, joinCrc, SEAL_BYTES, updateCrc } from './seal.js';
import { END_BYTES, encodeTarHeader, paddingBytes } from './tar.js';
import { encodeRawFrame, startCompress, type ZstdProcess } from './zstd.js';

/** A member to write. */
export interface MemberSource {
  /** Plain name: lower case letters, digits, dot, dash, underscore. */
  readonly name: string;
  /** Exactly what `open` gives, in bytes. */
  readonly sizeBytes: number;
  /** The content; read once. A chunk must keep its bytes until two more have been given. */
  open(options: ProgressOptions): AsyncIterable<Uint8Array>;
}

/** Options of {@link writeArchive}. */
export interface WriteArchiveOptions extends ProgressOptions {
  /** The archive; a file that is there is replaced, once the new one is complete. */
  readonly path: string;
  /** Where it is made: a file that is not there yet, in the folder of `path`. @default `path`, an id and `.partial` */
  readonly temporaryPath?: string;
  /** In the order they are to have, at most 16. */
  readonly members: readonly MemberSource[];
  readonly facts: ArchiveFacts;
  /** Packs with zstd. Default true. */
  readonly compress?: boolean;
  /** 1 to 19. Default 3. */
  readonly compressionLevel?: number;
  /** Survives a power cut. Default true. */
  readonly durable?: boolean;
}

/** What was written. */
export interface WrittenArchive {
  readonly manifest: Manifest;
  readonly sizeBytes: number;
}

const DEFAULT_LEVEL = 3;
const MAX_LEVEL = 19;
/** Chunks given to zstd and not yet taken by it: one being taken and one after it keep it busy. */
const MAX_QUEUED_CHUNKS = 2;
/** Piece of the packed archive read back at once for its CRC. */
const CRC_READ_BYTES = 1024 * 1024;
/** Bytes in the file that the disk is asked to take meanwhile, so that little is left for the sync in the end. */
const SYNC_STEP_BYTES = 32 * 1024 * 1024;
const NO_HASH = '0'.repeat(64);

/**
 * Writes an archive in one pass over its members: into a temporary file, fsynced and renamed to `path`. Throws
 * `invalid_argument` for bad options or a member of another length than promised, `config_error` when zstd is
 * missing, `disk_full`, `storage_error`, `cancelled`, and what a member's stream throws; nothing is left then.
 */
export async function writeArchive(options: WriteArchiveOptions): Promise<WrittenArchive> {
  checkOptions(options);
  const temporary = options.temporaryPath ?? `${options.path}.${newId('opn')}.partial`;
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, 'wx+', 0o600);
    const written = await writeInto(handle, options);
    const durable = options.durable ?? true;
    if (durable) await syncFile(handle);
    await handle.close();
    faultPoint('archive.rename:before');
    await rename(temporary, options.path);
    faultPoint('archive.rename:after');
    if (durable) await syncDirectory(dirname(options.path));
    return written;
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw wrapHostError(error, `write archive ${options.path}`);
  }
}

async function syncFile(handle: FileHandle): Promise<void> {
  faultPoint('sync:before');
  await handle.sync();
  faultPoint('sync:after');
}

async function writeInto(handle: FileHandle, options: WriteArchiveOptions): Promise<WrittenArchive> {
  const compress = options.compress ?? true;
  const draft = draftManifest(options);
  const headBytes = encodeHead(draft, compress).length;
  // The head is written last, over these zeros.
  await handle.writeFile(Buffer.alloc(headBytes));
  const sink = compress
    ? await PackedBody.open(handle, headBytes, options)
    : new PlainBody(handle, headBytes);
  let hashes: string[];
  try {
    hashes = await writeMembers(sink, options);
    await sink.end();
  } catch (error) {
    await sink.abort();
    throw error;
  }
  const members = draft.members.map((member, i) => ({ ...member, sha256: hashes[i] ?? NO_HASH }));
  const manifest = { ...draft, members };
  const head = encodeHead(manifest, compress);
  await writeAt(handle, head, 0);
  const body = sink.result();
  const end = headBytes + body.bytes;
  await writeAt(handle, encodeSeal(joinCrc(updateCrc(0, head), body.crc, body.bytes)), end);
  return { manifest, sizeBytes: end + SEAL_BYTES };
}

/** Writes all members and the end of the tar; returns their hashes. */
async function writeMembers(sink: Body, options: WriteArchiveOptions): Promise<string[]> {
  const totalBytes = options.members.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const hashes: string[] = [];
  let doneBytes = 0;
  for (const member of options.members) {
    await sink.write(encodeTarHeader(member.name, member.sizeBytes));
    const hash = createHash('sha256');
    let memberBytes = 0;
    for await (const chunk of member.open({ signal: options.signal })) {
      throwIfCancelled(options.signal, 'writing an archive');
      memberBytes += chunk.length;
      if (memberBytes > member.sizeBytes) break;
      const taken = sink.write(chunk);
      hash.update(chunk);
      await taken;
      doneBytes += chunk.length;
      options.onProgress?.({ stage: 'export', item: member.name, doneBytes, totalBytes });
    }
    if (memberBytes !== member.sizeBytes) {
      const got = memberBytes > member.sizeBytes ? 'more' : `${memberBytes}`;
      const expected = `${member.sizeBytes} bytes, got ${got}`;
      throw new CryoboxError('invalid_argument', `archive member ${member.name}: expected ${expected}`);
    }
    await sink.write(Buffer.alloc(paddingBytes(member.sizeBytes)));
    hashes.push(hash.digest('hex'));
  }
  await sink.write(Buffer.alloc(END_BYTES));
  return hashes;
}

function draftManifest({ members, facts }: WriteArchiveOptions): Manifest {
  const listed: ArchiveMember[] = members.map(({ name, sizeBytes }) => ({
    name,
    sizeBytes,
    sha256: NO_HASH,
  }));
  return {
    version: ARCHIVE_VERSION,
    ...facts,
    options: facts.options ?? {},
    members: listed,
    exportedAt: new Date().toISOString(),
  };
}

function encodeHead(manifest: Manifest, compress: boolean): Buffer {
  const bytes = encodeManifest(manifest);
  const padding = Buffer.alloc(paddingBytes(bytes.length));
  const tar = Buffer.concat([encodeTarHeader(MANIFEST_NAME, bytes.length), bytes, padding]);
  return compress ? encodeRawFrame(tar) : tar;
}

function checkOptions({ members, compressionLevel = DEFAULT_LEVEL }: WriteArchiveOptions): void {
  const refuse = (problem: string): never => {
    throw new CryoboxError('invalid_argument', problem);
  };
  if (!Number.isInteger(compressionLevel) || compressionLevel < 1 || compressionLevel > MAX_LEVEL) {
    refuse(`compressionLevel must be a whole number from 1 to ${MAX_LEVEL}, got ${compressionLevel}`);
  }
  if (members.length === 0 || members.length > MAX_MEMBERS) {
    refuse(`an archive has 1 to ${MAX_MEMBERS} members, got ${members.length}`);
  }
  const names = members.map(({ name }) => name);
  const bad = names.find((name, i) => !isMemberName(name) || names.indexOf(name) !== i);
  if (bad !== undefined) refuse(`archive member ${JSON.stringify(bad)} is not a plain name, or there twice`);
}

/** Where the tar goes after the head. */
interface Body {
  /** Takes bytes; resolves when there is room for more, and all but the last {@link MAX_QUEUED_CHUNKS} are used. */
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves when everything is in the file. */
  end(): Promise<void>;
  /** Gives up; resolves when nothing writes any more. */
  abort(): Promise<void>;
  /** Length and CRC of what is in the file, after `end`. */
  result(): { bytes: number; crc: number };
}

class PlainBody implements Body {
  readonly #handle: FileHandle;
  readonly #start: number;
  #bytes = 0;
  #crc = 0;

  constructor(handle: FileHandle, start: number) {
    this.#handle = handle;
    this.#start = start;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const at = this.#start + this.#bytes;
    this.#bytes += bytes.length;
    const written = writeAt(this.#handle, bytes, at);
    this.#crc = updateCrc(this.#crc, bytes);
    await written;
  }

  async end(): Promise<void> {}

  async abort(): Promise<void> {}

  result(): { bytes: number; crc: number } {
    return { bytes: this.#bytes, crc: this.#crc };
  }
}

class PackedBody implements Body {
  readonly #handle: FileHandle;
  readonly #start: number;
  readonly #zstd: ZstdProcess;
  readonly #queue: Promise<void>[] = [];
  readonly #readBack = Buffer.allocUnsafeSlow(CRC_READ_BYTES);
  #catchingUp: Promise<void> | undefined;
  readonly #durable: boolean;
  #syncing: Promise<void> | undefined;
  #askedToSync = 0;
  #bytes = 0;
  #crc = 0;

  private constructor(handle: FileHandle, start: number, zstd: ZstdProcess, durable: boolean) {
    this.#handle = handle;
    this.#start = start;
    this.#durable = durable;
    this.#zstd = zstd;
  }

  static async open(
    handle: FileHandle,
    start: number,
    { compressionLevel = DEFAULT_LEVEL, durable = true }: WriteArchiveOptions,
  ): Promise<PackedBody> {
    // The process shares the file's position, which is behind the head.
    return new PackedBody(handle, start, await startCompress(compressionLevel, handle.fd), durable);
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    const taken = this.#zstd.write(bytes);
    // It is awaited two chunks later; a failure until then is not an unhandled one.
    taken.catch(() => undefined);
    this.#queue.push(taken);
    this.#startCatchUp();
    if (this.#queue.length >= MAX_QUEUED_CHUNKS) await this.#queue.shift();
  }

  async end(): Promise<void> {
    await Promise.all(this.#queue);
    await this.#zstd.end();
    await this.#catchingUp;
    await this.#catchUp();
    await this.#syncing;
  }

  async abort(): Promise<void> {
    this.#zstd.kill();
    await this.#zstd.ended.catch(() => undefined);
    await this.#catchingUp?.catch(() => undefined);
    await this.#syncing?.catch(() => undefined);
  }

  result(): { bytes: number; crc: number } {
    return { bytes: this.#bytes, crc: this.#crc };
  }

  /** Reads what zstd has written meanwhile, so that little of it is left to read in the end. */
  #startCatchUp(): void {
    if (this.#catchingUp !== undefined) return;
    this.#catchingUp = this.#catchUp().then(() => {
      this.#catchingUp = undefined;
    });
    // A failure stays where it is until the end awaits it.
    this.#catchingUp.catch(() => undefined);
  }

  async #catchUp(): Promise<void> {
    for (;;) {
      const at = this.#start + this.#bytes;
      const { bytesRead } = await this.#handle.read(this.#readBack, 0, this.#readBack.length, at);
      if (bytesRead === 0) return;
      this.#crc = updateCrc(this.#crc, this.#readBack.subarray(0, bytesRead));
      this.#bytes += bytesRead;
      this.#startSync();
    }
  }

  #startSync(): void {
    if (!this.#durable || this.#syncing !== undefined || this.#bytes - this.#askedToSync < SYNC_STEP_BYTES)
      return;
    this.#askedToSync = this.#bytes;
    this.#syncing = this.#handle.datasync().then(() => {
      this.#syncing = undefined;
    });
    // The kernel tells of a lost write once only: a failure stays where it is until the end awaits it.
    this.#syncing.catch(() => undefined);
  }
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
