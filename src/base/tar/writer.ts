/**
 * Headers of tar entries: ustar (POSIX.1-2017, pax, "ustar Interchange Format"), with a pax header before where a value
 * does not fit. Names are written as the bytes they are.
 */
import { isUtf8 } from 'node:buffer';
import { toBytes } from './names.js';

/** One entry to write. Names are binary strings; a directory's ends in a slash. */
export interface TarHeader {
  readonly type: 'file' | 'link' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';
  readonly name: string;
  /** Where a symbolic link leads, or the name of an earlier entry that a hard link is another name of. */
  readonly linkName?: string;
  /** Permission bits (0o7777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of a file that follow the header. @default 0 */
  readonly size?: number;
  /** Whole seconds since 1970. */
  readonly modifiedSeconds: number;
  /** Of a device. */
  readonly device?: readonly [major: number, minor: number];
  /** Extended attributes by name. @default none */
  readonly attributes?: ReadonlyMap<string, Buffer>;
}

const recordBytes = 512;
const nameBytes = 100;
const typeFlags = {
  file: '0',
  link: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
} as const;
/** The end of a tar: two records of zeros. */
export const tarEnd: Uint8Array = Buffer.alloc(2 * recordBytes);

/** The zeros that fill the last record of a content of `size` bytes. */
export function tarPadding(size: number): Uint8Array {
  return Buffer.alloc((recordBytes - (size % recordBytes)) % recordBytes);
}

/** The header of an entry, with a pax header before it where one is needed. */
export function tarHeader(entry: TarHeader): Buffer {
  const name = toBytes(entry.name);
  const linkName = toBytes(entry.linkName ?? '');
  const { size = 0, modifiedSeconds } = entry;
  const records: Buffer[] = [];
  // Without this record a pax header is UTF-8, and a reader may change what is not.
  if (!isUtf8(name) || !isUtf8(linkName)) records.push(paxRecord('hdrcharset', Buffer.from('BINARY')));
  if (name.length > nameBytes) records.push(paxRecord('path', name));
  if (linkName.length > nameBytes) records.push(paxRecord('linkpath', linkName));
  const numbers = { size, uid: entry.uid, gid: entry.gid, mtime: modifiedSeconds };
  for (const [key, value] of Object.entries(numbers)) {
    const digits = key === 'uid' || key === 'gid' ? 7 : 11;
    if (!fits(value, digits)) records.push(paxRecord(key, Buffer.from(String(value))));
  }
  for (const [key, value] of entry.attributes ?? []) records.push(paxRecord(`SCHILY.xattr.${key}`, value));
  const [major, minor] = entry.device ?? [0, 0];
  const header = ustar(typeFlags[entry.type], name, linkName, { ...numbers, mode: entry.mode, major, minor });
  if (records.length === 0) return header;
  const content = Buffer.concat(records);
  const zero = { size: content.length, uid: 0, gid: 0, mtime: 0, mode: 0o644 };
  const extended = ustar('x', Buffer.from('PaxHeader'), Buffer.alloc(0), zero);
  return Buffer.concat([extended, content, tarPadding(content.length), header]);
}

interface Numbers {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly major?: number;
  readonly minor?: number;
}

function ustar(flag: string, name: Buffer, linkName: Buffer, numbers: Numbers): Buffer {
  const header = Buffer.alloc(recordBytes);
  name.copy(header, 0, 0, nameBytes);
  putOctal(header, 100, 7, numbers.mode);
  putOctal(header, 108, 7, numbers.uid);
  putOctal(header, 116, 7, numbers.gid);
  putOctal(header, 124, 11, numbers.size);
  putOctal(header, 136, 11, numbers.mtime);
  header.fill(' ', 148, 156);
  header.write(flag, 156, 'latin1');
  linkName.copy(header, 157, 0, nameBytes);
  header.write('ustar\x0000', 257, 'latin1');
  if (flag === typeFlags.character || flag === typeFlags.block) {
    putOctal(header, 329, 7, numbers.major ?? 0);
    putOctal(header, 337, 7, numbers.minor ?? 0);
  }
  let sum = 0;
  for (const byte of header) sum += byte;
  putOctal(header, 148, 6, sum);
  header[155] = 0x20;
  return header;
}

function fits(value: number, digits: number): boolean {
  return value >= 0 && value < 8 ** digits;
}

/** What does not fit stands in the pax header, and as 0 here. */
function putOctal(header: Buffer, at: number, digits: number, value: number): void {
  const text = (fits(value, digits) ? value : 0).toString(8).padStart(digits, '0');
  header.write(`${text}\0`, at, 'latin1');
}

/** `length key=value\n`, with the length counting its own digits. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}
