import { posix } from 'node:path';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { FileInfo, Files } from '../../../api/index.js';
import { type EntryInfo, fileTypes } from './filesystem-messages.js';
import type { Names } from './users.js';

/** Links followed one after another, as by the kernel (path_resolution(7)). */
const maxLinks = 40;

const kindLetters = { file: '-', directory: 'd', symlink: 'L', other: '?' } as const;

/** Kind and permission bits as Go writes a file's mode (io/fs, `FileMode.String`). */
function permissionsOf({ type, mode }: Pick<FileInfo, 'type' | 'mode'>): string {
  const bits = [...'rwxrwxrwx'].map((letter, at) => ((mode >> (8 - at)) & 1 ? letter : '-')).join('');
  const special = (mode & 0o4000 ? 'u' : '') + (mode & 0o2000 ? 'g' : '') + (mode & 0o1000 ? 't' : '');
  const kind = type === 'file' ? '' : kindLetters[type];
  return (kind + special || '-') + bits;
}

/** What a link leads to in the end; the link itself where that is nowhere. */
export async function targetOf(files: Files, link: FileInfo): Promise<FileInfo> {
  let at: FileInfo = link;
  for (let links = 0; at.type === 'symlink' && at.linkTarget !== undefined && links < maxLinks; links += 1) {
    const path = posix.resolve(posix.dirname(at.path), at.linkTarget);
    const next = await files.stat(path);
    if (!next) return { ...at, path };
    at = next;
  }
  return at;
}

/** A file of a box as E2B's clients know it. */
export async function entryOf(files: Files, names: Names, info: FileInfo): Promise<EntryInfo> {
  const isSymlink = info.type === 'symlink';
  const target = isSymlink ? await targetOf(files, info) : info;
  return {
    name: posix.basename(info.path),
    type:
      target.type === 'file' || target.type === 'directory' ? fileTypes[target.type] : fileTypes.unspecified,
    path: info.path,
    size: BigInt(info.sizeBytes),
    mode: target.mode & 0o777,
    permissions: permissionsOf(info),
    owner: names.owner(info.uid),
    group: names.group(info.gid),
    modifiedTime: timestampFromDate(info.modifiedAt),
    ...(isSymlink ? { symlinkTarget: target.path } : {}),
    isSymlink,
  };
}
