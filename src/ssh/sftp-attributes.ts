import type { Attributes, FileEntry } from 'ssh2';
import type { FileInfo } from '../api/index.js';

/** Bits of a mode that say what a file is (inode(7)). */
const typeBits: Readonly<Record<FileInfo['type'], number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  // Which kind is not known; clients take what has no bits for something special.
  other: 0,
};

const letters: Readonly<Record<FileInfo['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  other: '?',
};

/** What a file transfer says of a file. */
export function attributesOf({ type, mode, uid, gid, sizeBytes, modifiedAt }: FileInfo): Attributes {
  const mtime = Math.max(0, Math.floor(modifiedAt.getTime() / 1000));
  return { mode: (mode & 0o7777) | typeBits[type], uid, gid, size: sizeBytes, atime: mtime, mtime };
}

/** An entry of a listing, with the line that clients print as it is. */
export function entryOf(name: string, info: FileInfo): FileEntry {
  const rights = [...'rwxrwxrwx'].map((letter, at) => (info.mode & (0o400 >> at) ? letter : '-')).join('');
  const when = info.modifiedAt.toISOString().slice(0, 16).replace('T', ' ');
  const owner = `${String(info.uid).padEnd(8)} ${String(info.gid).padEnd(8)}`;
  const longname = `${letters[info.type]}${rights}    1 ${owner} ${String(info.sizeBytes).padStart(12)} ${when} ${name}`;
  return { filename: name, longname, attrs: attributesOf(info) };
}

/** Which attributes a client sets: those it does not name are absent. */
export type GivenAttributes = Partial<Attributes>;
