import { CryoboxError } from '../../errors.js';
import { FileType, sortedEntries, type TreeNode } from '../tree/tree.js';
import { firstInode, fullDiskHint } from './geometry.js';

/** Inode number of the root directory (kernel documentation, ext4, "Special inodes"). */
export const rootInode = 2;

/** All nodes of a tree. */
interface NumberedTree {
  /** In the order of their numbers, the root first. */
  readonly nodes: TreeNode[];
  /** The directory above each directory but the root. */
  readonly parents: ReadonlyMap<TreeNode, TreeNode>;
}

/**
 * Numbers all nodes: the root is 2, then directory by directory in byte order of names, so that the files of one
 * directory lie together and the same tree always gets the same numbers. Throws `image_refused` beyond `inodeCount`.
 */
export function numberNodes(root: TreeNode, inodeCount: number): NumberedTree {
  root.inode = rootInode;
  const nodes = [root];
  const parents = new Map<TreeNode, TreeNode>();
  const waiting: TreeNode[] = [root];
  let next = firstInode;
  for (let directory = waiting.pop(); directory; directory = waiting.pop()) {
    const inside: TreeNode[] = [];
    for (const [, node] of sortedEntries(directory)) {
      if (node.inode !== 0) continue;
      if (next > inodeCount) {
        throw new CryoboxError(
          'image_refused',
          `the image has more files than the ${inodeCount} inodes of its disk`,
          {
            hint: fullDiskHint,
          },
        );
      }
      node.inode = next;
      next += 1;
      nodes.push(node);
      if (node.type !== FileType.directory) continue;
      parents.set(node, directory);
      inside.push(node);
    }
    // Depth first, in order: the stack takes the last first.
    waiting.push(...inside.reverse());
  }
  return { nodes, parents };
}
