/**
 * The files of an image in memory, without their content: what layers are applied to and what the ext4 writer reads.
 *
 * Names and link targets are "binary strings": one char per byte (base/tar/names.ts), so that names
 * which are not UTF-8 survive. Nothing of an image is ever created on the host, so no name can escape.
 */
import type { FileTime } from '../../base/tar/file-time.js';

/** What a node is; the values are ext4's directory entry types (kernel documentation, ext4, "Directory Entries"). */
export const FileType = {
  regular: 1,
  directory: 2,
  characterDevice: 3,
  blockDevice: 4,
  fifo: 5,
  symlink: 7,
} as const;

/** One of the values of {@link FileType}. */
export type FileTypeCode = (typeof FileType)[keyof typeof FileType];

/** Owner, mode, times and extended attributes: everything of a node but its content. */
export interface NodeMetadata {
  /** Permission bits with setuid, setgid and sticky (07777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedAt: FileTime;
  /** Time of last access; the modification time when absent. */
  readonly accessedAt?: FileTime;
  /** Extended attributes by full name (`security.capability`). */
  readonly attributes?: ReadonlyMap<string, Buffer>;
}

/** What few nodes have; kept apart so that the many others stay small. */
interface RareMetadata {
  readonly accessedAt?: FileTime;
  readonly attributes?: ReadonlyMap<string, Buffer>;
}

/**
 * One file, directory, link or device. Several names may point at one node (hard links). An image has hundreds of
 * thousands of them, so everything common lies in plain fields.
 */
export class TreeNode {
  readonly type: FileTypeCode;
  /** Index of the layer that last wrote the node: a whiteout hides only what lower layers brought. */
  layer: number;
  mode = 0;
  uid = 0;
  gid = 0;
  modifiedSeconds = 0;
  modifiedNanoseconds = 0;
  rare: RareMetadata | undefined;
  /** Names pointing here, for everything but directories. */
  links = 1;
  /** Length of a regular file in bytes. */
  size = 0;
  /** Inode number; 0 until the tree is numbered. */
  inode = 0;
  /** Entries of a directory. */
  readonly children: Map<string, TreeNode> | undefined;
  /** Target of a symlink. */
  readonly target: string | undefined;
  /** Major and minor number of a device. */
  readonly device: readonly [number, number] | undefined;
  /** One extent from file block 0 on, which is what most files have: its disk block and length. */
  #firstBlock = 0;
  #blockCount = 0;
  #extents: number[] | undefined;

  constructor(
    type: FileTypeCode,
    metadata: NodeMetadata,
    layer: number,
    more: { readonly target?: string; readonly device?: readonly [number, number] } = {},
  ) {
    this.type = type;
    this.layer = layer;
    this.children = type === FileType.directory ? new Map() : undefined;
    this.target = more.target;
    this.device = more.device;
    this.describe(metadata);
  }

  /** Where a regular file's content lies: triples of file block, disk block and number of blocks. */
  get extents(): readonly number[] {
    if (this.#extents) return this.#extents;
    return this.#blockCount === 0 ? [] : [0, this.#firstBlock, this.#blockCount];
  }

  set extents(extents: readonly number[]) {
    const isSimple = extents.length === 3 && extents[0] === 0;
    this.#firstBlock = isSimple ? (extents[1] ?? 0) : 0;
    this.#blockCount = isSimple ? (extents[2] ?? 0) : 0;
    this.#extents = isSimple || extents.length === 0 ? undefined : [...extents];
  }

  /** Time of the last change of the content. */
  get modifiedAt(): FileTime {
    return { seconds: this.modifiedSeconds, nanoseconds: this.modifiedNanoseconds };
  }

  /** Takes over owner, mode, times and attributes. */
  describe(metadata: NodeMetadata): void {
    const { accessedAt, attributes, modifiedAt } = metadata;
    this.mode = metadata.mode;
    this.uid = metadata.uid;
    this.gid = metadata.gid;
    this.modifiedSeconds = modifiedAt.seconds;
    this.modifiedNanoseconds = modifiedAt.nanoseconds;
    this.rare = accessedAt || attributes ? { accessedAt, attributes } : undefined;
  }
}

const epoch: FileTime = { seconds: 0, nanoseconds: 0 };

/** What a directory gets that no layer describes: root's, 0755, a fixed time so that the result is reproducible. */
export const impliedDirectory: NodeMetadata = { mode: 0o755, uid: 0, gid: 0, modifiedAt: epoch };

/** Entries of a directory in byte order, the order everything is numbered and written in. */
export function sortedEntries(directory: TreeNode): [string, TreeNode][] {
  const entries = [...(directory.children ?? [])];
  return entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
