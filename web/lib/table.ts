/** Filtering and sorting boxes. */
import { titleOf } from './operations.ts';
import type { BoxJson } from './types.ts';

/** What boxes are sorted by. */
export type Column = 'name' | 'status' | 'image' | 'memory' | 'disk' | 'created' | 'used';

const keys: Readonly<Record<Column, (box: BoxJson) => string | number>> = {
  name: (box) => titleOf(box).toLowerCase(),
  status: (box) => box.status,
  image: (box) => box.template ?? box.image,
  memory: (box) => box.memory_mib,
  disk: (box) => box.storage.disk_bytes + box.storage.memory_bytes,
  created: (box) => box.created_at,
  used: (box) => box.last_activity_at,
};

/** Boxes in an order; those that are alike by their ids. */
export function inOrder(boxes: BoxJson[], { column, down }: { column: Column; down: boolean }): BoxJson[] {
  const key = keys[column];
  const sorted = boxes
    .map((box) => [key(box), box] as const)
    .sort(([a, one], [b, other]) => {
      if (a === b) return one.box_id < other.box_id ? -1 : 1;
      return a < b ? -1 : 1;
    })
    .map(([, box]) => box);
  return down ? sorted.reverse() : sorted;
}

/** Whether each word of a filter stands somewhere in a box's name, id, image, state or labels. */
export function matches(box: BoxJson, filter: string): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const labels = Object.entries(box.labels).map(([key, value]) => `${key}=${value}`);
  const text = [box.name ?? '', box.box_id, box.image, box.template ?? '', box.status, ...labels]
    .join('\n')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}
