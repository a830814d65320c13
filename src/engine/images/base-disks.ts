import type { ProgressOptions } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { KeyedMutex } from '../../base/mutex.js';
import {
  type BlobStore,
  buildBaseDisk,
  defaultImageLimits,
  layerSources,
  loadImage,
} from '../../image/index.js';
import { type Database, type GroupCommit, hold, type ImageRow, type LayerRow } from '../../store/index.js';
import type { LayerFiles } from '../layer-files.js';

const bytesPerGb = 1024 ** 3;

/** Bases are made at this size, or smaller for smaller boxes; a larger box's file system is grown by its agent. */
export const largestBaseGb = 10;

interface BaseDiskNeeds {
  readonly db: Database;
  readonly commits: GroupCommit;
  readonly layers: LayerFiles;
  readonly blobs: BlobStore;
  readonly logger: Logger;
}

/** The base disks of images: one per manifest and size, made on first use and shared by all boxes. */
export class BaseDisks {
  readonly #needs: BaseDiskNeeds;
  readonly #building = new KeyedMutex();

  constructor(needs: BaseDiskNeeds) {
    this.#needs = needs;
  }

  /** The base disk of an image for boxes of a size; asked for by many at once it is built once. */
  async get(
    row: Pick<ImageRow, 'manifest_digest'>,
    diskSizeGb: number,
    options: ProgressOptions,
  ): Promise<LayerRow> {
    const sizeGb = Math.min(diskSizeGb, largestBaseGb);
    return await this.once(row.manifest_digest, sizeGb, (layer) =>
      this.#build(layer, row.manifest_digest, options),
    );
  }

  /** The base disk, or what `build` writes into the file of a new layer; builds of the same disk wait for each other. */
  async once(
    manifestDigest: string,
    sizeGb: number,
    build: (layer: LayerRow) => Promise<{ readonly buildMs: number }>,
  ): Promise<LayerRow> {
    return await this.#building.run(`${manifestDigest}/${sizeGb}`, async () => {
      const known = await this.find(manifestDigest, sizeGb);
      if (known) return known;
      const { layers, logger } = this.#needs;
      const virtual_bytes = sizeGb * bytesPerGb;
      const layer = layers.newRow({ kind: 'raw', parent_id: null, state: 'sealed', virtual_bytes });
      const { buildMs } = await build(layer);
      logger.info('built a base disk', { image: manifestDigest, sizeGb, buildMs: Math.round(buildMs) });
      return await this.#publish(layer, manifestDigest, sizeGb);
    });
  }

  /** The stored base disk, if there is one. */
  async find(manifestDigest: string, sizeGb: number): Promise<LayerRow | undefined> {
    return await this.#needs.db
      .selectFrom('image_disks')
      .innerJoin('layers', 'layers.id', 'image_disks.layer_id')
      .selectAll('layers')
      .where('manifest_digest', '=', manifestDigest)
      .where('size_gb', '=', sizeGb)
      .executeTakeFirst();
  }

  async #build(
    layer: LayerRow,
    manifestDigest: string,
    options: ProgressOptions,
  ): Promise<{ buildMs: number }> {
    const { layers, blobs } = this.#needs;
    const image = await loadImage(blobs, manifestDigest, defaultImageLimits);
    return await buildBaseDisk({
      path: layers.path(layer.id),
      identity: manifestDigest,
      layers: layerSources(blobs, image),
      sizeBytes: layer.virtual_bytes,
      signal: options.signal,
      onProgress: ({ bytes, layer: index }) =>
        options.onProgress?.({ stage: 'unpack', item: image.layers[index]?.digest, doneBytes: bytes }),
    });
  }

  async #publish(layer: LayerRow, manifestDigest: string, sizeGb: number): Promise<LayerRow> {
    const { layers, commits } = this.#needs;
    const sealed = { ...layer, size_bytes: await layers.seal(layer.id) };
    await commits.run(async (tx) => {
      await tx.insertInto('layers').values(sealed).execute();
      const disk = { manifest_digest: manifestDigest, size_gb: sizeGb, layer_id: sealed.id };
      await tx.insertInto('image_disks').values(disk).execute();
      await hold(tx, `image:${manifestDigest}`, [sealed.id]);
    });
    return sealed;
  }
}
