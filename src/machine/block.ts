import { z } from 'zod';
import { parseJson } from '../base/json.js';
import { type DiskSlot, emptyNode } from './arguments.js';
import type { QmpClient } from './qmp.js';

/** A description has a dozen values for each layer of a chain, each in the one above it. */
const descriptionBounds = { maxValues: 16_384, maxDepth: 1024 };

const namedNode = z.object({ 'node-name': z.string().optional() });
const blockInfo = z.object({
  inserted: z.object({ 'node-name': z.string(), image: z.object({ filename: z.string() }) }).optional(),
});
const nodeDescription = z.object({ file: z.unknown().optional(), filename: z.string().optional() });

/** One file of a disk's chain, as it is named in the machine's private directory. */
export interface DiskNode {
  /** Also the file's name: a layer's id. */
  readonly id: string;
  readonly format: 'qcow2' | 'raw';
}

/** A disk's files from the base to the head; only the head is written. */
export type DiskChain = readonly [DiskNode, ...DiskNode[]];

/** Options of a block node (QEMU's BlockdevOptions, qapi/block-core.json). */
function nodeOptions(node: DiskNode, slot: DiskSlot, backing: string | null, readOnly: boolean): object {
  return {
    'node-name': nodeName(slot, node.id),
    driver: node.format,
    'read-only': readOnly,
    // A guest's discards free space in the head; runs of zeroes become zero clusters.
    discard: 'unmap',
    ...(node.format === 'qcow2' ? { backing } : {}),
    file: {
      driver: 'file',
      filename: node.id,
      'read-only': readOnly,
      discard: 'unmap',
      // Only one process ever opens a head; layers are shared and never written.
      locking: 'off',
    },
  };
}

/** Node names hold 31 characters at most: a layer's prefix is left out. */
function nodeName(slot: DiskSlot, id: string): string {
  return `${slot.charAt(0)}-${id.replace(/^[a-z]+_/, '')}`;
}

/** Puts a disk into a slot that has none yet. Legal before the machine's state is loaded. */
export async function attachDisk(qmp: QmpClient, slot: DiskSlot, chain: DiskChain): Promise<void> {
  const added: Promise<unknown>[] = [];
  let backing: string | null = null;
  chain.forEach((node, index) => {
    added.push(qmp.execute('blockdev-add', nodeOptions(node, slot, backing, index < chain.length - 1)));
    backing = nodeName(slot, node.id);
  });
  added.push(
    qmp.execute('blockdev-reopen', { options: [{ driver: 'raw', 'node-name': slot, file: backing }] }),
  );
  await Promise.all(added);
}

/** Takes a disk out of its slot, which is empty again then. Nothing in the guest may have it any more. */
export async function detachDisk(qmp: QmpClient, slot: DiskSlot, chain: DiskChain): Promise<void> {
  await qmp.execute('blockdev-reopen', {
    options: [{ driver: 'raw', 'node-name': slot, file: emptyNode(slot) }],
  });
  for (const { id } of [...chain].reverse()) {
    await qmp.execute('blockdev-del', { 'node-name': nodeName(slot, id) });
  }
}

/** One head to be replaced by an overlay on it. */
export interface HeadSwitch {
  readonly slot: DiskSlot;
  readonly from: DiskNode;
  readonly to: DiskNode;
  /** Id of the layer that `from` stands on, or null. */
  readonly below: string | null;
}

/** Adds overlays and makes them the heads of their disks, in one transaction. The machine should stand still. */
export async function switchHeads(qmp: QmpClient, heads: readonly HeadSwitch[]): Promise<void> {
  if (heads.length === 0) return;
  await Promise.all(
    heads.map(({ slot, to }) => qmp.execute('blockdev-add', nodeOptions(to, slot, null, false))),
  );
  await qmp.execute('transaction', {
    actions: heads.map(({ slot, from, to }) => ({
      type: 'blockdev-snapshot',
      data: { node: nodeName(slot, from.id), overlay: nodeName(slot, to.id) },
    })),
  });
  // What was the head is opened for reading only from now on: its file is about to be made unwritable, and QEMU would
  // open it for writing again at the next switch.
  await qmp.execute('blockdev-reopen', {
    options: heads.map(({ slot, from, below }) =>
      nodeOptions(from, slot, below === null ? null : nodeName(slot, below), true),
    ),
  });
}

/**
 * Takes from a machine the means to write what was a head once: QEMU keeps the file of one open for writing. `under` is
 * what it stands on.
 */
export async function makeReadOnly(
  qmp: QmpClient,
  slot: DiskSlot,
  node: DiskNode,
  under: DiskNode | undefined,
): Promise<void> {
  const backing = under ? nodeName(slot, under.id) : null;
  await qmp.execute('blockdev-reopen', { options: [nodeOptions(node, slot, backing, true)] });
}

/** A head that is to stand on another file, which holds the same data as what it stood on. */
export interface BackingChange {
  readonly head: DiskNode;
  readonly backing: DiskNode;
  /** What it stood on, top first; let go afterwards. */
  readonly old: readonly DiskNode[];
}

/**
 * Puts a head onto another file while the machine goes on. The head's header is left to the caller: QEMU does not
 * rewrite it. Does what is left to do when it was done in part. Throws `machine_failed`.
 */
export async function replaceBacking(qmp: QmpClient, slot: DiskSlot, change: BackingChange): Promise<void> {
  const { head, backing, old } = change;
  const nodes = await qmp.queryList('query-named-block-nodes', namedNode, { flat: true });
  const open = new Set(nodes.map((node) => node['node-name']));
  const backingName = nodeName(slot, backing.id);
  if (!open.has(backingName)) await qmp.execute('blockdev-add', nodeOptions(backing, slot, null, true));
  await qmp.execute('blockdev-reopen', { options: [nodeOptions(head, slot, backingName, false)] });
  for (const { id } of old) {
    const name = nodeName(slot, id);
    if (open.has(name)) await qmp.execute('blockdev-del', { 'node-name': name });
  }
}

/** Ids of the files that a machine has open as the heads of its disks. */
export async function activeHeads(qmp: QmpClient): Promise<Partial<Record<DiskSlot, string>>> {
  const devices = await qmp.queryList('query-block', blockInfo);
  const heads: Partial<Record<DiskSlot, string>> = {};
  for (const { inserted } of devices) {
    const slot = inserted?.['node-name'];
    const file = headOf(inserted?.image.filename ?? '');
    if ((slot === 'guest' || slot === 'disk') && file) heads[slot] = file;
  }
  return heads;
}

/** QEMU describes a node as `json:` and its options; the head is what the files lead to, beside its backing files. */
function headOf(description: string): string | undefined {
  if (!description.startsWith('json:')) return undefined;
  let node: unknown;
  try {
    node = parseJson(description.slice('json:'.length), descriptionBounds);
  } catch {
    return undefined;
  }
  for (;;) {
    const { data } = nodeDescription.safeParse(node);
    if (!data) return undefined;
    if (data.filename !== undefined) return data.filename;
    node = data.file;
  }
}
