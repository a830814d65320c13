import type { BoxInfo, ImageInfo, TemplateInfo, TreeNode, TreeParent } from '../../api/index.js';
import { layerUses, listAllSnapshots, listBoxOrigins } from '../../store/index.js';
import { snapshotInfos } from '../states/snapshot-info.js';
import type { EngineContext } from './context.js';

/** What is listed in other ways too. */
export interface TreeLists {
  readonly images: readonly ImageInfo[];
  readonly templates: readonly TemplateInfo[];
  readonly boxes: readonly BoxInfo[];
}

const none = { boxId: null, status: null, hasMemory: false } as const;

/**
 * The states of a tenant and what each descends from: three reads of the database beside the lists, whatever their number. A
 * box stands below the snapshot it goes on from; a snapshot below the one before it; else below the template or image.
 */
export async function statesOf(ctx: EngineContext, tenant: string, lists: TreeLists): Promise<TreeNode[]> {
  const origins = new Map((await listBoxOrigins(ctx.db, tenant)).map((row) => [row.id, row] as const));
  const rows = await listAllSnapshots(ctx.db, tenant);
  const infos = await snapshotInfos(ctx.db, rows);
  const parents = new Map(rows.map((row) => [row.id, row.parent_id] as const));
  const diskOf = new Map(rows.map((row) => [row.id, row.disk_layer] as const));
  const boxes = new Map(lists.boxes.map((box) => [box.id, box] as const));
  const images = new Map(lists.images.map((image) => [image.reference, image] as const));
  const templates = new Set(lists.templates.map((template) => template.name));

  const layers = await layerUses(ctx.db, [
    ...rows.map((row) => row.disk_layer),
    ...[...origins.values()].map((row) => row.disk_head),
  ]);
  const ofLayer = new Map(rows.map((row) => [row.disk_layer, row.id] as const).reverse());
  /** The snapshot whose disk a layer stands on: that of a clone or fork, or an older one where the latest is gone. */
  const beneath = (layer: string | undefined): string | undefined => {
    let id = layers.get(layer ?? '')?.parentId;
    while (id && !ofLayer.has(id)) id = layers.get(id)?.parentId;
    return id ? ofLayer.get(id) : undefined;
  };
  const sourceOf = (box: BoxInfo | undefined, layer: string | undefined): TreeParent | null => {
    if (box?.template && templates.has(box.template)) return { kind: 'template', id: box.template };
    const snapshot = beneath(layer);
    if (snapshot) return { kind: 'snapshot', id: snapshot };
    // A box tells its image as it was asked for; its row, as it was found.
    return imageParent(images, box && origins.get(box.id)?.image);
  };
  const below = (
    snapshot: string | null | undefined,
    box: BoxInfo | undefined,
    layer: string | undefined,
  ): TreeParent | null =>
    snapshot && parents.has(snapshot) ? { kind: 'snapshot', id: snapshot } : sourceOf(box, layer);

  return [
    ...[...images.values()].map(imageNode),
    ...lists.templates.map((template) => templateNode(template, imageParent(images, template.image))),
    ...infos.map(
      (info): TreeNode => ({
        kind: 'snapshot',
        id: info.id,
        name: info.name,
        parent: below(parents.get(info.id), boxes.get(info.boxId), diskOf.get(info.id)),
        createdAt: info.createdAt,
        boxId: info.boxId,
        status: null,
        hasMemory: info.hasMemory,
        sizeBytes: info.sizeBytes,
        exclusiveBytes: info.exclusiveBytes,
      }),
    ),
    ...lists.boxes.map((box) =>
      boxNode(box, below(origins.get(box.id)?.snapshot_id, box, origins.get(box.id)?.disk_head)),
    ),
  ];
}

function imageParent(
  images: ReadonlyMap<string, ImageInfo>,
  reference: string | undefined,
): TreeParent | null {
  const image = reference === undefined ? undefined : images.get(reference);
  return image ? { kind: 'image', id: image.reference } : null;
}

function imageNode(image: ImageInfo): TreeNode {
  const { reference, cachedAt, sizeBytes } = image;
  return {
    ...none,
    kind: 'image',
    id: reference,
    name: reference,
    parent: null,
    createdAt: cachedAt,
    sizeBytes,
    exclusiveBytes: null,
  };
}

function templateNode({ name, createdAt, sizeBytes }: TemplateInfo, parent: TreeParent | null): TreeNode {
  return {
    ...none,
    kind: 'template',
    id: name,
    name,
    parent,
    createdAt,
    hasMemory: true,
    sizeBytes,
    exclusiveBytes: null,
  };
}

function boxNode(box: BoxInfo, parent: TreeParent | null): TreeNode {
  const own = box.storage.diskBytes + box.storage.memoryBytes;
  return {
    kind: 'box',
    id: box.id,
    name: box.name,
    parent,
    createdAt: box.createdAt,
    boxId: null,
    status: box.status,
    hasMemory: box.status === 'paused',
    sizeBytes: own,
    exclusiveBytes: own,
  };
}
