import type { BoxStatus, TreeNode, TreeNodeKind } from '../api/index.js';
import {
  asObject,
  asObjects,
  date,
  type JsonObject,
  number,
  numberOrNull,
  text,
  textOrNull,
} from './json.js';

/** The answer of `GET {p}/tree`. */
export function treeToJson(nodes: readonly TreeNode[]): JsonObject {
  return { nodes: nodes.map(nodeToJson) };
}

function nodeToJson(node: TreeNode): JsonObject {
  return {
    kind: node.kind,
    id: node.id,
    name: node.name,
    parent: node.parent && { kind: node.parent.kind, id: node.parent.id },
    created_at: node.createdAt.toISOString(),
    box_id: node.boxId,
    status: node.status,
    has_memory: node.hasMemory,
    size_bytes: node.sizeBytes,
    exclusive_bytes: node.exclusiveBytes,
  };
}

/** The inverse of {@link treeToJson}. */
export function treeFromJson(value: unknown): TreeNode[] {
  return asObjects(asObject(value, 'tree')['nodes'], 'nodes').map((json) => ({
    kind: text(json, 'kind') as TreeNodeKind,
    id: text(json, 'id'),
    name: textOrNull(json, 'name'),
    parent: parentOf(json),
    createdAt: date(json, 'created_at'),
    boxId: textOrNull(json, 'box_id'),
    status: textOrNull(json, 'status') as BoxStatus | null,
    hasMemory: json['has_memory'] === true,
    sizeBytes: number(json, 'size_bytes'),
    exclusiveBytes: numberOrNull(json, 'exclusive_bytes'),
  }));
}

function parentOf(json: JsonObject): TreeNode['parent'] {
  if (json['parent'] === null || json['parent'] === undefined) return null;
  const parent = asObject(json['parent'], 'parent');
  return { kind: text(parent, 'kind') as TreeNodeKind, id: text(parent, 'id') };
}
