import { CryoboxError } from '../../errors.js';
import { PAGE_BYTES } from '../qemu-stream/format.js';
import { differingExtents, EXTENT_WORDS, ExtentBuilder, extentAt, overlayExtents, ZERO } from './extents.js';
import { writeFlat } from './flat-writer.js';
import { createLayer, type LayerPaths } from './layer-files.js';
import { compact, deriveMap, FLAT_ABOVE_BYTES, type LayerMap, sourcesIn, translate } from './layer-map.js';
import type { MemoryImage } from './memory-image.js';
import { PackedWriter } from './packed-writer.js';

/** Pages read at once from the merged layers, 1 MiB. */
const pagesPerRead = 256;

/** What is merged, and into which files. */
export interface MergeOptions {
  readonly image: MemoryImage;
  /** The flat layer that machines restored from the image map. */
  readonly base: LayerMap;
  /** Bytes in which the image differs from it. */
  readonly differenceBytes: number;
  readonly paths: LayerPaths;
  readonly layerId: string;
  readonly signal?: AbortSignal;
}

/**
 * The memory of an image as one new layer: packed over the same base while the difference is small, so that what maps
 * the base goes on sharing it; the whole memory flat otherwise. Durable when it returns; after a failure nothing is left.
 * @throws integrity when a source layer is damaged; cancelled; disk_full or storage_error.
 */
export async function mergeLayers(options: MergeOptions): Promise<LayerMap> {
  const { image, base, layerId, paths } = options;
  refuseItself(image, layerId);
  if (options.differenceBytes <= FLAT_ABOVE_BYTES && hasSameBlocks(image.map, base))
    return await createLayer(paths, layerId, (data) => packOver(options, new PackedWriter(data, layerId)));
  return await makeFlat(options);
}

/** The whole memory of an image as a new flat layer. Durable, and throws, as {@link mergeLayers}. */
export async function makeFlat(
  options: Pick<MergeOptions, 'image' | 'paths' | 'layerId' | 'signal'>,
): Promise<LayerMap> {
  const { image, layerId, paths, signal } = options;
  refuseItself(image, layerId);
  return await createLayer(paths, layerId, (data) => writeFlat({ data, layerId, source: image, signal }));
}

function refuseItself({ map }: MemoryImage, layerId: string): void {
  if (map.layers.includes(layerId))
    throw new CryoboxError('internal', `memory layer ${layerId} cannot be made from itself`);
}

function hasSameBlocks(one: LayerMap, other: LayerMap): boolean {
  const shape = ({ blocks }: LayerMap): string => blocks.map((b) => `${b.name}=${b.sizeBytes}`).join();
  return shape(one) === shape(other);
}

async function packOver(
  { image, base, layerId, signal }: MergeOptions,
  writer: PackedWriter,
): Promise<LayerMap> {
  const buffer = Buffer.allocUnsafe(pagesPerRead * PAGE_BYTES);
  const changes: Uint32Array[] = [];
  try {
    for (const [block, extents] of differencesOf(image.map, base).entries()) {
      const own = new ExtentBuilder();
      for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
        const { startPage, pageCount, layer } = extentAt(extents, index);
        own.add(startPage, pageCount, layer === ZERO ? ZERO : 0, writer.pages);
        if (layer === ZERO) continue;
        for (let done = 0; done < pageCount; done += pagesPerRead) {
          if (signal?.aborted) throw new CryoboxError('cancelled', `writing memory layer ${layerId}`);
          const count = Math.min(pagesPerRead, pageCount - done);
          await image.read(block, startPage + done, count, buffer.subarray(0, count * PAGE_BYTES));
          await writer.append(buffer, 0, count * PAGE_BYTES);
        }
      }
      changes.push(own.finish());
    }
    return deriveMap(base, { layerId, ...(await writer.finish()), changes });
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** Per block the extents of `target` whose content `base` has elsewhere or not at all. */
function differencesOf(target: LayerMap, base: LayerMap): Uint32Array[] {
  return target.blocks.map((block, index) =>
    differingExtents(
      block.extents,
      base.blocks[index]?.extents ?? new Uint32Array(0),
      sourcesIn(base, target),
    ),
  );
}

/**
 * A map of the same memory as `target` in which everything that lies where it lay in `from` comes from `onto`, a merge
 * of `from`. The map is that of a new layer `layerId` without data of its own. Descendants of a merged memory become
 * shallow this way without a copy of their pages.
 */
export function rebaseMap(target: LayerMap, from: LayerMap, onto: LayerMap, layerId: string): LayerMap {
  const layers = [...new Set([layerId, ...target.layers, ...onto.layers])];
  const positions = new Map(layers.map((id, index) => [id, index]));
  const numbered = (map: LayerMap, extents: Uint32Array): Uint32Array =>
    translate(extents, (layer) => positions.get(map.layers[layer] ?? '') ?? 0);
  const own = differencesOf(target, from);
  return compact({
    layers,
    form: 'packed',
    generation: onto.generation + 1 + Math.max(0, target.generation - from.generation),
    dataBytes: 0,
    digests: new Uint8Array(0),
    blocks: target.blocks.map((block, index) => ({
      name: block.name,
      sizeBytes: block.sizeBytes,
      extents: overlayExtents(
        numbered(onto, onto.blocks[index]?.extents ?? new Uint32Array(0)),
        numbered(target, own[index] ?? block.extents),
      ),
    })),
  });
}

/** Writes the files of a layer that has a map and no data. Durable when it returns; after a failure nothing is left. */
export async function writeMapOnly(map: LayerMap, paths: LayerPaths): Promise<void> {
  await createLayer(paths, map.layers[0] ?? '', async () => map);
}
