import type { BoxStatus } from './operations.js';

/** What states descend from: images and templates; boxes, which are states that change; snapshots, which never do. */
export type TreeNodeKind = 'image' | 'template' | 'box' | 'snapshot';

/** A state that another one descends from. */
export interface TreeParent {
  readonly kind: TreeNodeKind;
  readonly id: string;
}

/** One state in the tree of all states. */
export interface TreeNode {
  readonly kind: TreeNodeKind;
  readonly id: string;
  /** Reference of an image; null: a box without a name. */
  readonly name: string | null;
  /** What it descends from, as far as that is still there; null: nothing. */
  readonly parent: TreeParent | null;
  readonly createdAt: Date;
  /** The box of a snapshot; null of all others. */
  readonly boxId: string | null;
  /** Of a box; null of all others. */
  readonly status: BoxStatus | null;
  /** Whether its machine can go on, processes and all: a paused box, a template, a snapshot with memory. */
  readonly hasMemory: boolean;
  /** Bytes on disk of all that it needs, what others need as well included; of a box: what it alone has. */
  readonly sizeBytes: number;
  /** Bytes that removing it would free; null: not known. */
  readonly exclusiveBytes: number | null;
}
