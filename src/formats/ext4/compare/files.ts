/** What became of one file between two file systems. */
import type { FileChange, FileChangeKind, FileInfo } from '../../../api/index.js';
import { sameAttributes } from '../read/attributes.js';
import type { Differences } from '../read/blocks.js';
import type { FileSystem } from '../read/file-system.js';
import { fileKind, type Inode } from '../read/inode.js';
import { ContentComparison } from './content.js';

/** Words of i_block that hold the number of a device. */
const deviceBytes = 8;

/** Compares files of two file systems that have the same path. */
export class FileComparison {
  readonly #from: FileSystem;
  readonly #to: FileSystem;
  readonly #contents: ContentComparison;

  constructor(from: FileSystem, to: FileSystem, differences: Differences) {
    this.#from = from;
    this.#to = to;
    this.#contents = new ContentComparison(from, to, differences);
  }

  /** What happened to a file; undefined: nothing. A path that neither has is not asked for. */
  async kindOf(one: Inode | undefined, other: Inode | undefined): Promise<FileChangeKind | undefined> {
    if (!one) return 'added';
    if (!other) return 'removed';
    if (one.kind !== other.kind) return 'type';
    const sameInode = one.number === other.number && one.bytes.equals(other.bytes);
    if (!(await this.#sameContent(one, other, sameInode))) return 'modified';
    return sameInode || (await this.#sameMetadata(one, other)) ? undefined : 'metadata';
  }

  async #sameContent(one: Inode, other: Inode, sameInode: boolean): Promise<boolean> {
    switch (one.kind) {
      // Bytes of files are not in the journal: they may have come later than what the inode says of them.
      case fileKind.regular:
        return await this.#contents.same(one, other, sameInode);
      case fileKind.symlink:
        return sameInode || (await this.#from.target(one)).equals(await this.#to.target(other));
      case fileKind.characterDevice:
      case fileKind.blockDevice:
        return one.content.subarray(0, deviceBytes).equals(other.content.subarray(0, deviceBytes));
      default:
        return true;
    }
  }

  /** The time of a directory says only that names in it came or went, which is told of those. */
  async #sameMetadata(one: Inode, other: Inode): Promise<boolean> {
    const sameFields =
      one.mode === other.mode &&
      one.uid === other.uid &&
      one.gid === other.gid &&
      (one.isDirectory || one.modifiedAt === other.modifiedAt);
    return sameFields && sameAttributes(await this.#from.attributes(one), await this.#to.attributes(other));
  }
}

/** A change as users see it. `path` is its text. */
export function changeOf(
  path: string,
  kind: FileChangeKind,
  one: Inode | undefined,
  other: Inode | undefined,
): FileChange {
  return {
    path,
    kind,
    typeBefore: one ? typeOf(one) : null,
    typeAfter: other ? typeOf(other) : null,
    sizeBefore: one?.size ?? null,
    sizeAfter: other?.size ?? null,
  };
}

function typeOf({ kind }: Inode): FileInfo['type'] {
  if (kind === fileKind.regular) return 'file';
  if (kind === fileKind.directory) return 'directory';
  return kind === fileKind.symlink ? 'symlink' : 'other';
}
