import { wrapHostError } from '../../errors.js';
import { FileType, impliedDirectory, TreeNode } from '../tree/tree.js';
import { Ext4Builder } from './builder.js';

/** A program of the root's owner that everybody may run. */
const programMetadata = { ...impliedDirectory, mode: 0o755 };

/** Where ext4 puts what a check finds: e2fsck expects it, with this mode. */
const lostAndFound = { ...impliedDirectory, mode: 0o700 };

/** Options of {@link buildEmptyDisk}. */
export interface BuildEmptyDiskOptions {
  /** Where the raw ext4 image goes; must not exist. Removed again on failure. */
  readonly path: string;
  /** A multiple of 128 MiB from 256 MiB to 1 TiB; the file is sparse. */
  readonly sizeBytes: number;
  /** Decides the file system's uuid. */
  readonly identity: string;
  /** Programs in its root by name; none by default. */
  readonly programs?: Readonly<Record<string, Buffer>>;
}

/**
 * Makes an ext4 image without any files but programs that it is given, as any user. It is durable when this returns, and gone when it throws:
 * `disk_full`, `storage_error`, `invalid_argument` for a bad size.
 */
export async function buildEmptyDisk(options: BuildEmptyDiskOptions): Promise<void> {
  try {
    const disk = await Ext4Builder.create(options);
    try {
      const root = new TreeNode(FileType.directory, impliedDirectory, 0);
      root.children?.set('lost+found', new TreeNode(FileType.directory, lostAndFound, 0));
      for (const [name, content] of Object.entries(options.programs ?? {})) {
        root.children?.set(name, await programNode(disk, content));
      }
      await disk.finish(root);
    } finally {
      await disk.abort();
    }
  } catch (error) {
    throw wrapHostError(error, 'cannot make an empty disk');
  }
}

async function programNode(disk: Ext4Builder, content: Buffer): Promise<TreeNode> {
  const node = new TreeNode(FileType.regular, programMetadata, 0);
  let next: Buffer | undefined = content;
  node.size = content.length;
  node.extents = await disk.storeContent(async () => {
    const piece = next;
    next = undefined;
    return piece;
  });
  return node;
}
