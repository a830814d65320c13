/**
 * A reader of tar streams: ustar, GNU long names and pax (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header
 * Block"; GNU tar manual, "Basic Tar Format").
 *
 * Our own, because layers and copies are hostile and must come out exact: the common library holds extended headers of
 * any length in memory and decodes names and attribute values as UTF-8, which loses files and breaks file capabilities.
 */
import { CryoboxError, type ErrorCode } from '../../errors.js';
import { ByteReader } from './byte-reader.js';
import type { FileTime } from './file-time.js';
import { fromBytes, showName } from './names.js';
import { applyPax, type Extensions } from './pax.js';

const recordBytes = 512;
/** Extended headers carry a path of 4096 bytes and some attributes; this is a hundred times more. */
const maxExtendedHeaderBytes = 1024 * 1024;

/** Kinds of entries; anything else in a type flag is refused. */
type TarEntryType = 'file' | 'link' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

/** One entry of a tar. Names are binary strings. */
export interface TarEntry {
  readonly type: TarEntryType;
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly modifiedAt: FileTime;
  readonly accessedAt?: FileTime;
  readonly device: readonly [major: number, minor: number];
  readonly attributes?: ReadonlyMap<string, Buffer>;
}

const types: ReadonlyMap<string, TarEntryType> = new Map([
  ['0', 'file'],
  ['\0', 'file'],
  ['7', 'file'],
  ['1', 'link'],
  ['2', 'symlink'],
  ['3', 'character'],
  ['4', 'block'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

/** What a tar is called and with which codes it is refused, by whoever reads it. */
export interface TarFaults {
  /** For what is no tar, or a damaged one. */
  readonly invalid: ErrorCode;
  /** For what is not unpacked. */
  readonly refused: ErrorCode;
}

const faultsOfImage: TarFaults = { invalid: 'image_invalid', refused: 'image_refused' };

/** Reads a tar entry by entry. Throws `image_invalid` and `image_refused`, or the codes it is given for them. */
export class TarReader {
  readonly #faults: TarFaults;
  readonly #bytes: ByteReader;
  #contentLeft = 0;
  #paddingLeft = 0;

  constructor(source: AsyncIterable<Uint8Array>, faults = faultsOfImage) {
    this.#faults = faults;
    this.#bytes = new ByteReader(source);
  }

  /** Offset in the stream of what is read next: after {@link next}, where the entry's content begins. */
  get offset(): number {
    return this.#bytes.offset;
  }

  /** The next entry; content of the one before that was not read is skipped. Undefined at the end. */
  async next(): Promise<TarEntry | undefined> {
    let extensions: Extensions = {};
    for (;;) {
      await this.#skip(this.#contentLeft + this.#paddingLeft);
      this.#contentLeft = 0;
      this.#paddingLeft = 0;
      const header = await this.#readHeader();
      if (!header) return undefined;
      const flag = String.fromCharCode(header[156] ?? 0);
      const size = readNumber(header, 124, 12, this.#faults);
      if (flag === 'x' || flag === 'L' || flag === 'K') {
        extensions = extend(extensions, flag, await this.#readExtended(size), this.#faults);
      } else if (flag === 'g') {
        this.#begin(size);
      } else {
        const entry = toEntry(header, flag, size, extensions, this.#faults);
        this.#begin(entry.size);
        return entry;
      }
    }
  }

  /** Some bytes of the current entry's content, valid until the next call; undefined at its end. */
  async read(): Promise<Buffer | undefined> {
    if (this.#contentLeft === 0) return undefined;
    const bytes = await this.#bytes.readSome(this.#contentLeft);
    if (!bytes) throw this.#truncated();
    this.#contentLeft -= bytes.length;
    return bytes;
  }

  /** Reads the rest of the stream, so that whoever hashes it sees every byte. */
  async drain(): Promise<void> {
    while (await this.#bytes.readSome(Number.MAX_SAFE_INTEGER));
  }

  /** Ends the stream early; what is behind it is released. */
  async close(): Promise<void> {
    await this.#bytes.close();
  }

  #truncated(): CryoboxError {
    return new CryoboxError(this.#faults.invalid, 'the tar archive ends in the middle of an entry');
  }

  #begin(size: number): void {
    this.#contentLeft = size;
    this.#paddingLeft = paddingOf(size);
  }

  async #skip(count: number): Promise<void> {
    if (!(await this.#bytes.skip(count))) throw this.#truncated();
  }

  /** A header, or undefined at the end of the archive: a record of zeros, or the end of the stream. */
  async #readHeader(): Promise<Buffer | undefined> {
    const header = await this.#bytes.readExactly(recordBytes);
    if (header === undefined) return undefined;
    if (header.length < recordBytes) throw this.#truncated();
    if (header[0] === 0 && header.every((byte) => byte === 0)) return undefined;
    let sum = 8 * 0x20;
    for (let at = 0; at < recordBytes; at += 1) if (at < 148 || at >= 156) sum += header[at] ?? 0;
    if (readNumber(header, 148, 8, this.#faults) !== sum) {
      throw new CryoboxError(this.#faults.invalid, 'this is no tar archive: a header has a wrong checksum');
    }
    return header;
  }

  async #readExtended(size: number): Promise<Buffer> {
    if (size > maxExtendedHeaderBytes) {
      throw new CryoboxError(
        this.#faults.refused,
        `the tar archive has an extended header of ${size} bytes; at most ${maxExtendedHeaderBytes} are read`,
      );
    }
    const bytes = Buffer.from((await this.#bytes.readExactly(size)) ?? []);
    if (bytes.length < size) throw this.#truncated();
    await this.#skip(paddingOf(size));
    return bytes;
  }
}

function paddingOf(size: number): number {
  return (recordBytes - (size % recordBytes)) % recordBytes;
}

function extend(extensions: Extensions, flag: string, bytes: Buffer, faults: TarFaults): Extensions {
  if (flag === 'x') return applyPax(extensions, bytes, faults.invalid);
  const text = cutAtZero(fromBytes(bytes));
  return flag === 'L' ? { ...extensions, name: text } : { ...extensions, linkName: text };
}

function toEntry(
  header: Buffer,
  flag: string,
  headerSize: number,
  extensions: Extensions,
  faults: TarFaults,
): TarEntry {
  const number = (at: number, length: number): number => readNumber(header, at, length, faults);
  const name = extensions.name ?? headerName(header);
  const type = types.get(flag);
  if (!type || extensions.sparse) {
    const kind =
      extensions.sparse || flag === 'S' ? 'a sparse file in GNU form' : `of type ${JSON.stringify(flag)}`;
    throw new CryoboxError(faults.refused, `the entry ${showName(name)} is ${kind}, which is not unpacked`);
  }
  // Old archives mark a directory by a slash behind the name of a file.
  const isOldDirectory = type === 'file' && name.endsWith('/');
  const hasContent = type === 'file' && !isOldDirectory;
  return {
    type: isOldDirectory ? 'directory' : type,
    name,
    linkName: extensions.linkName ?? cutAtZero(fromBytes(header.subarray(157, 257))),
    mode: number(100, 8) & 0o7777,
    uid: extensions.uid ?? number(108, 8),
    gid: extensions.gid ?? number(116, 8),
    size: hasContent ? (extensions.size ?? headerSize) : 0,
    modifiedAt: extensions.modifiedAt ?? { seconds: number(136, 12), nanoseconds: 0 },
    accessedAt: extensions.accessedAt,
    device: [number(329, 8), number(337, 8)],
    attributes: extensions.attributes,
  };
}

/** Name with the ustar prefix; GNU archives use the prefix's bytes for other things and have another magic. */
function headerName(header: Buffer): string {
  const name = cutAtZero(fromBytes(header.subarray(0, 100)));
  const isUstar = fromBytes(header.subarray(257, 263)) === 'ustar\0';
  const prefix = isUstar ? cutAtZero(fromBytes(header.subarray(345, 500))) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function cutAtZero(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** A number of a header: octal text, or base 256 with the first bit set (GNU). */
function readNumber(header: Buffer, at: number, length: number, faults: TarFaults): number {
  const first = header[at] ?? 0;
  if ((first & 0x80) === 0) {
    const text = cutAtZero(fromBytes(header.subarray(at, at + length))).trim();
    if (text === '') return 0;
    if (!/^[0-7]+$/.test(text)) throw badNumber(faults);
    return Number.parseInt(text, 8);
  }
  let value = first & 0x40 ? first - 0x100 : first & 0x3f;
  for (let index = 1; index < length; index += 1) value = value * 256 + (header[at + index] ?? 0);
  if (!Number.isSafeInteger(value)) throw badNumber(faults);
  return value;
}

function badNumber(faults: TarFaults): CryoboxError {
  return new CryoboxError(faults.invalid, 'this is no tar archive: a header holds a number that is none');
}
