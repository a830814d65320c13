import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProgressOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { decodeSparseBlock, type SparseRange } from '../../base/gnu-sparse.js';
import { Turns } from '../../base/turns.js';
import { CryoboxError, isCryoboxError, wrapHostError } from '../../errors.js';
import { checkImage, readHeader } from '../qcow2/index.js';
import { ByteReader } from './byte-reader.js';
import {
  DEFAULT_MAX_TOTAL_BYTES,
  DISK_SUFFIX,
  invalidArchive,
  MANIFEST_NAME,
  MAX_FILLING_BYTES,
  MAX_MANIFEST_BYTES,
  MAX_RATIO,
  MAX_ZEROS_RATIO,
  memberLimitBytes,
  RATIO_FREE_BYTES,
  ZEROS_FREE_BYTES,
} from './format.js';
import { type AnyManifest, isOurs, parseManifest } from './manifest.js';
import { MemberFile } from './member-file.js';
import { ArchiveSource } from './source.js';
import {
  BLOCK_BYTES,
  decodeTarHeader,
  END_BYTES,
  encodeTarHeader,
  isZeros,
  paddingBytes,
  type TarHeader,
} from './tar.js';

/** Options of {@link readArchive}. */
export interface ReadArchiveOptions extends ProgressOptions {
  /** Path of the archive, or its bytes. */
  readonly source: string | AsyncIterable<Uint8Array>;
  /** Where the members go, by their names: a directory nobody else writes to. */
  readonly directory: string;
  /** Most bytes of all members together, unpacked. Default 256 GiB. */
  readonly maxTotalBytes?: number;
  /** Called with the manifest before any member is unpacked; what it throws ends the reading. */
  readonly onManifest?: (manifest: AnyManifest) => void;
  /** Whether the members are fsynced. Default false. */
  readonly durable?: boolean;
}

/** A member that was unpacked and verified. */
export interface ReadMember {
  readonly name: string;
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** A verified archive. */
export interface ReadArchive {
  readonly manifest: AnyManifest;
  readonly members: readonly ReadMember[];
}

/** Sparse stretches one member may have: a 64 GiB disk with every second cluster stored. */
const MAX_SPARSE_RANGES = 2 ** 19;
/** BoxLite's only member. */
const BOXLITE_DISK = 'disk.qcow2';

/**
 * Unpacks an archive of version 6, or of BoxLite's versions 3 to 5, and verifies all of it: kinds, names and order of
 * members, sizes, hashes, limits, the seal, what follows the end, and that disks are sound and stand alone. Throws
 * `archive_invalid`, `payload_too_large` beyond `maxTotalBytes`, `not_found` without the file, `config_error` without
 * zstd, `disk_full`, `storage_error`, `cancelled`, and what `onManifest` throws; nothing is left in the directory then.
 */
export async function readArchive(options: ReadArchiveOptions): Promise<ReadArchive> {
  const unpacking = new Unpacking(options);
  try {
    return await unpacking.run();
  } catch (error) {
    await unpacking.cleanUp();
    throw wrapHostError(error, 'read archive');
  } finally {
    await unpacking.close();
  }
}

/** What a member has to be; the size is unknown in BoxLite's archives. */
interface Expected {
  readonly name: string;
  readonly sha256: string;
  readonly sizeBytes?: number;
  /** Most bytes that make sense. */
  readonly limitBytes: number;
}

class Unpacking {
  readonly #options: ReadArchiveOptions;
  readonly #source: ArchiveSource;
  readonly #tar: AsyncGenerator<Uint8Array>;
  readonly #reader: ByteReader;
  readonly #made: string[] = [];
  #open: MemberFile | undefined;
  #unpackedBytes = 0;
  #storedBytes = 0;
  #zeroBytes = 0;
  readonly #turns = new Turns();

  constructor(options: ReadArchiveOptions) {
    this.#options = options;
    this.#source = new ArchiveSource(options.source, options.signal);
    this.#tar = this.#source.bytes();
    this.#reader = new ByteReader(this.#tar);
  }

  async run(): Promise<ReadArchive> {
    const manifest = await this.#readManifest();
    this.#options.onManifest?.(manifest);
    const canonical = isOurs(manifest);
    const members: ReadMember[] = [];
    for (const expected of expectedOf(manifest)) {
      const header = await this.#readHeader(canonical, expected.name);
      members.push(await this.#readMember(header, expected));
    }
    await this.#readEnd(canonical);
    if (canonical && !this.#source.sealed) throw invalidArchive('its seal is missing: it was cut short');
    for (const member of members) await checkDisk(member);
    return { manifest, members };
  }

  /** Stops the process and removes every file made. */
  async cleanUp(): Promise<void> {
    await this.#open?.abort();
    await this.#tar.return(undefined).catch(() => undefined);
    for (const path of this.#made) await rm(path, { force: true });
  }

  /** Closes the archive. */
  async close(): Promise<void> {
    await this.#source.close();
  }

  async #readManifest(): Promise<AnyManifest> {
    const block = await this.#reader.exactly(BLOCK_BYTES, 'the header of manifest.json');
    const header = decodeTarHeader(block);
    if (header?.name !== MANIFEST_NAME || header.sparse) {
      throw invalidArchive(`manifest.json must come first, got ${JSON.stringify(header?.name ?? null)}`);
    }
    if (header.sizeBytes > MAX_MANIFEST_BYTES) {
      throw invalidArchive(`manifest.json of ${header.sizeBytes} bytes exceeds ${MAX_MANIFEST_BYTES}`);
    }
    const manifest = parseManifest(await this.#reader.exactly(header.sizeBytes, MANIFEST_NAME));
    await this.#readPadding(header);
    if (isOurs(manifest)) checkCanonical(block, header);
    else if (!this.#source.compressed) {
      throw invalidArchive(`version ${manifest.version} is always packed with zstd, and this is not`);
    }
    return manifest;
  }

  async #readHeader(canonical: boolean, expectedName: string): Promise<TarHeader> {
    const block = await this.#reader.exactly(BLOCK_BYTES, `the header of ${expectedName}`);
    const header = decodeTarHeader(block);
    if (header?.name !== expectedName) {
      const got = header ? JSON.stringify(header.name) : 'the end';
      throw invalidArchive(`member ${expectedName} was expected, got ${got}`);
    }
    if (canonical) checkCanonical(block, header);
    return header;
  }

  async #readMember(header: TarHeader, expected: Expected): Promise<ReadMember> {
    const { name, sizeBytes } = { name: expected.name, sizeBytes: header.sizeBytes };
    if (sizeBytes !== (expected.sizeBytes ?? sizeBytes)) {
      throw invalidArchive(`${name} has ${sizeBytes} bytes, its manifest says ${expected.sizeBytes}`);
    }
    if (sizeBytes > expected.limitBytes) {
      throw invalidArchive(
        `${name} of ${sizeBytes} bytes is larger than the ${expected.limitBytes} of a box of this size`,
      );
    }
    this.#admit(sizeBytes, name);
    const path = join(this.#options.directory, name);
    const file = await MemberFile.create(path, sizeBytes);
    this.#made.push(path);
    this.#open = file;
    for await (const part of contentOf(this.#reader, header, this.#turns)) {
      throwIfCancelled(this.#options.signal, 'reading an archive');
      if (part.buffer === zeroChunk.buffer) this.#countZeros(part.length);
      await file.write(part);
      this.#progress(name, part.length, file);
      await this.#turns.chunk();
    }
    this.#storedBytes += file.storedBytes;
    const sha256 = await file.finish(this.#options.durable ?? false);
    this.#open = undefined;
    await this.#readPadding(header);
    if (sha256 !== expected.sha256) throw invalidArchive(`${name} does not have the hash of its manifest`);
    return { name, path, sha256, sizeBytes };
  }

  /** Refuses before a byte is written what would be too large. */
  #admit(sizeBytes: number, name: string): void {
    const limitBytes = this.#options.maxTotalBytes ?? DEFAULT_MAX_TOTAL_BYTES;
    if (this.#unpackedBytes + sizeBytes > limitBytes) {
      const message = `archive: ${name} of ${sizeBytes} bytes exceeds the limit of ${limitBytes} for all members`;
      throw new CryoboxError('payload_too_large', message, { details: { limitBytes } });
    }
  }

  /** Zeros that are not stored cost nobody but us. */
  #countZeros(length: number): void {
    this.#zeroBytes += length;
    if (this.#zeroBytes > ZEROS_FREE_BYTES + MAX_ZEROS_RATIO * this.#source.archiveBytes) {
      throw invalidArchive(`it is nothing but holes: more than ${MAX_ZEROS_RATIO} times its size`);
    }
  }

  #progress(item: string, length: number, file: MemberFile): void {
    this.#unpackedBytes += length;
    const stored = this.#storedBytes + file.storedBytes;
    if (stored > RATIO_FREE_BYTES + MAX_RATIO * this.#source.archiveBytes) {
      throw invalidArchive(`it unpacks to more than ${MAX_RATIO} times its size`);
    }
    this.#options.onProgress?.({ stage: 'import', item, doneBytes: this.#unpackedBytes });
  }

  async #readPadding({ storedBytes }: TarHeader): Promise<void> {
    const padding = await this.#reader.exactly(paddingBytes(storedBytes), 'the padding of a member');
    if (!isZeros(padding)) throw invalidArchive('the padding of a member is not zero');
  }

  /** Two blocks of zeros, then nothing; writers other than ours may fill up with more zeros. */
  async #readEnd(canonical: boolean): Promise<void> {
    const end = await this.#reader.exactly(END_BYTES, 'its end');
    if (!isZeros(end)) throw invalidArchive('there are more members than the manifest lists');
    let fillingBytes = 0;
    for (let part = await this.#reader.some(BLOCK_BYTES); part; part = await this.#reader.some(BLOCK_BYTES)) {
      fillingBytes += part.length;
      if (canonical || fillingBytes > MAX_FILLING_BYTES || !isZeros(part)) {
        throw invalidArchive('something follows its end');
      }
      await this.#turns.step();
    }
  }
}

function expectedOf(manifest: AnyManifest): readonly Expected[] {
  if (!isOurs(manifest)) {
    const { diskSha256: sha256, diskSizeGb } = manifest;
    const limitBytes = memberLimitBytes(BOXLITE_DISK, { memoryMiB: 0, diskSizeGb: diskSizeGb ?? Infinity });
    return [{ name: BOXLITE_DISK, sha256, limitBytes }];
  }
  return manifest.members.map((member) => ({
    ...member,
    limitBytes: memberLimitBytes(member.name, manifest.shape),
  }));
}

/** Version 6 has exactly one way to write a header. */
function checkCanonical(block: Buffer, { name, sizeBytes }: TarHeader): void {
  if (!block.equals(encodeTarHeader(name, sizeBytes))) {
    throw invalidArchive(`the tar header of ${name} is not in the form of version 6`);
  }
}

/** A member's bytes, the zeros of a sparse one included. */
async function* contentOf(reader: ByteReader, header: TarHeader, turns: Turns): AsyncGenerator<Buffer> {
  if (!header.sparse) {
    yield* reader.stream(header.storedBytes, header.name);
    return;
  }
  let at = 0;
  for (const { offset, length } of await sparseRanges(reader, header, turns)) {
    await turns.step();
    yield* zerosOf(offset - at);
    yield* reader.stream(length, header.name);
    at = offset + length;
  }
  yield* zerosOf(header.sizeBytes - at);
}

async function sparseRanges(reader: ByteReader, header: TarHeader, turns: Turns): Promise<SparseRange[]> {
  const ranges = [...(header.sparse?.ranges ?? [])];
  let more = header.sparse?.more ?? false;
  while (more) {
    const next = decodeSparseBlock(await reader.exactly(BLOCK_BYTES, header.name));
    ranges.push(...next.ranges);
    more = next.more;
    if (ranges.length > MAX_SPARSE_RANGES)
      throw invalidArchive(`${header.name} has too many sparse stretches`);
    await turns.step();
  }
  let at = 0;
  let storedBytes = 0;
  for (const { offset, length } of ranges) {
    if (offset < at) throw invalidArchive(`${header.name} has sparse stretches out of order`);
    at = offset + length;
    storedBytes += length;
  }
  if (at > header.sizeBytes || storedBytes !== header.storedBytes) {
    throw invalidArchive(`${header.name} has sparse stretches that do not add up`);
  }
  return ranges;
}

const zeroChunk = Buffer.alloc(1024 * 1024);

function* zerosOf(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= zeroChunk.length) yield zeroChunk.subarray(0, left);
}

/** A disk must stand alone, and nothing a guest writes may reach its tables. */
async function checkDisk({ name, path }: ReadMember): Promise<void> {
  if (!name.endsWith(DISK_SUFFIX)) return;
  try {
    const { backing } = await readHeader(path);
    if (backing) throw invalidArchive(`${name} has a backing file, which is not allowed`);
    const { corruptions, problems } = await checkImage(path);
    if (corruptions > 0) throw invalidArchive(`${name} is damaged: ${problems[0]?.message}`);
  } catch (error) {
    if (isCryoboxError(error, 'disk_image_invalid')) throw invalidArchive(error.message, error);
    throw error;
  }
}
