/** Extended headers of tar (POSIX.1-2017, pax, "pax Extended Header"; attributes as star and GNU tar write them). */
import { CryoboxError, type ErrorCode } from '../../errors.js';
import type { FileTime } from './file-time.js';
import { fromBytes } from './names.js';

/** What extended headers say about the entry that follows them. */
export interface Extensions {
  readonly name?: string;
  readonly linkName?: string;
  readonly size?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly modifiedAt?: FileTime;
  readonly accessedAt?: FileTime;
  readonly attributes?: ReadonlyMap<string, Buffer>;
  /** The content is a GNU map of a sparse file. */
  readonly sparse?: boolean;
}

const attributePrefix = 'SCHILY.xattr.';

/** Adds the records of a pax header, each `length key=value\n` with the length counting itself, to what is known. Throws `code`. */
export function applyPax(before: Extensions, bytes: Buffer, code: ErrorCode): Extensions {
  let extensions = before;
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = space < 0 ? Number.NaN : Number(fromBytes(bytes.subarray(at, space)));
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    const whole =
      Number.isInteger(length) &&
      end <= bytes.length &&
      equals > space &&
      equals < end &&
      bytes[end - 1] === 0x0a;
    if (!whole) throw invalid(code, 'a record is cut');
    const key = fromBytes(bytes.subarray(space + 1, equals));
    extensions = applyRecord(extensions, key, bytes.subarray(equals + 1, end - 1), code);
    at = end;
  }
  return extensions;
}

function applyRecord(extensions: Extensions, key: string, value: Buffer, code: ErrorCode): Extensions {
  if (key.startsWith(attributePrefix)) {
    const attributes = new Map(extensions.attributes).set(key.slice(attributePrefix.length), value);
    return { ...extensions, attributes };
  }
  if (key.startsWith('GNU.sparse.')) return { ...extensions, sparse: true };
  const text = fromBytes(value);
  switch (key) {
    case 'path':
      return { ...extensions, name: text };
    case 'linkpath':
      return { ...extensions, linkName: text };
    case 'size':
      return { ...extensions, size: parseCount(text, code) };
    case 'uid':
      return { ...extensions, uid: parseCount(text, code) };
    case 'gid':
      return { ...extensions, gid: parseCount(text, code) };
    case 'mtime':
      return { ...extensions, modifiedAt: parseTime(text, code) };
    case 'atime':
      return { ...extensions, accessedAt: parseTime(text, code) };
    default:
      return extensions;
  }
}

function parseCount(text: string, code: ErrorCode): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(value)) throw invalid(code, 'a number is none');
  return value;
}

/** Seconds with an optional fraction, which may have more digits than nanoseconds; they are cut. */
function parseTime(text: string, code: ErrorCode): FileTime {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text);
  if (!match) throw invalid(code, 'a time is none');
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').padEnd(9, '0').slice(0, 9));
  if (match[1] !== '-') return { seconds, nanoseconds };
  return nanoseconds === 0
    ? { seconds: -seconds, nanoseconds }
    : { seconds: -seconds - 1, nanoseconds: 1e9 - nanoseconds };
}

function invalid(code: ErrorCode, what: string): CryoboxError {
  return new CryoboxError(code, `the tar archive has a broken extended header: ${what}`);
}
