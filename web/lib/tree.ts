/** The tree of states (docs/api.md, `GET {p}/tree`). */

/** One state. */
export interface TreeNodeJson {
  readonly kind: 'image' | 'template' | 'box' | 'snapshot';
  readonly id: string;
  readonly name: string | null;
  readonly parent: { readonly kind: string; readonly id: string } | null;
  readonly created_at: string;
  readonly box_id: string | null;
  readonly status: string | null;
  readonly has_memory: boolean;
  readonly size_bytes: number;
  readonly exclusive_bytes: number | null;
}

/** A state and what descends from it, oldest first. */
export interface Branch {
  readonly node: TreeNodeJson;
  readonly children: readonly Branch[];
}

const keyOf = ({ kind, id }: { kind: string; id: string }) => `${kind}:${id}`;

/** States by what they descend from; those whose parent is not seen stand at the top. */
export function branchesOf(nodes: readonly TreeNodeJson[]): readonly Branch[] {
  const known = new Set(nodes.map(keyOf));
  const below = new Map<string, TreeNodeJson[]>();
  for (const node of nodes) {
    const parent = node.parent && known.has(keyOf(node.parent)) ? keyOf(node.parent) : '';
    below.set(parent, [...(below.get(parent) ?? []), node]);
  }
  const build = (parent: string): Branch[] =>
    (below.get(parent) ?? [])
      .sort((a, b) => (a.created_at < b.created_at ? -1 : 1))
      .map((node) => ({ node, children: build(keyOf(node)) }));
  return build('');
}
