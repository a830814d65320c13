import { join } from 'node:path';
import type { BuildOptions, CreateOptions, ProgressOptions, PullResult } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import type { Logger } from '../../base/log.js';
import { KeyedMutex } from '../../base/mutex.js';
import { CryoboxError } from '../../errors.js';
import {
  BlobStore,
  buildBaseDisk,
  buildDebianImage,
  defaultImageLimits,
  formatReference,
  type Image,
  type ImageConfig,
  importImage,
  layerSources,
  loadImage,
  parseReference,
  shortRepository,
} from '../../image/index.js';
import { type Database, hold, type ImageRow, type LayerRow } from '../../store/index.js';
import type { HomePaths } from '../home.js';
import type { LayerFiles } from '../layer-files.js';

const bytesPerGb = 1024 ** 3;

interface ImageNeeds {
  readonly paths: HomePaths;
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly logger: Logger;
}

/** An image of a tenant, ready to make boxes from. */
export interface StoredImage {
  readonly row: ImageRow;
  readonly config: ImageConfig;
}

/** The images of a home: blobs by digest, references in the database, one base disk per manifest and size. */
export class ImageStore {
  readonly blobs: BlobStore;
  readonly #needs: ImageNeeds;
  readonly #scratch: string;
  /** Builds of the same disk are joined, and an image is not removed while a disk is made of it. */
  readonly #building = new KeyedMutex();

  constructor(needs: ImageNeeds) {
    this.#needs = needs;
    this.blobs = new BlobStore(needs.paths.images);
    this.#scratch = join(needs.paths.scratch, 'images');
  }

  /** Finds an image of a tenant by reference, or by the digest of its configuration. */
  async find(tenant: string, reference: string): Promise<StoredImage | undefined> {
    const images = this.#needs.db.selectFrom('images').selectAll().where('tenant', '=', tenant);
    const row = await (/^sha256:[0-9a-f]{64}$/.test(reference)
      ? images.where('config_digest', '=', reference)
      : images.where('reference', '=', formatReference(parseReference(reference)))
    ).executeTakeFirst();
    return row && { row, config: JSON.parse(row.config) as ImageConfig };
  }

  /** The image a new box is made of. Throws `image_not_found`. */
  async require(tenant: string, reference: string, _options: ProgressOptions): Promise<StoredImage> {
    const image = await this.find(tenant, reference);
    if (image) return image;
    throw new CryoboxError('image_not_found', `there is no image ${JSON.stringify(reference)} here`, {
      details: { image: reference },
    });
  }

  /** The base disk of an image for boxes of a size; built on first use, once however many ask. */
  async baseDisk(
    row: ImageRow,
    diskSizeGb: number,
    options: Pick<CreateOptions, 'signal' | 'onProgress'>,
  ): Promise<LayerRow> {
    // Bases are made at the default size and grown by the agent; only smaller boxes need one of their own.
    const sizeGb = Math.min(diskSizeGb, 10);
    const key = `${row.manifest_digest}/${sizeGb}`;
    return await this.#building.run(key, async () => {
      const known = await this.#knownDisk(row.manifest_digest, sizeGb);
      return known ?? (await this.#buildDisk(row, sizeGb, options));
    });
  }

  /** Copies an image from the host's files. */
  async import(
    tenant: string,
    path: string,
    options: ProgressOptions & { readonly reference?: string },
  ): Promise<PullResult> {
    const image = await importImage({
      source: path,
      store: this.blobs,
      scratchDirectory: this.#scratch,
      signal: options.signal,
      onProgress: (progress) => options.onProgress?.(asProgress(progress)),
    });
    const reference = options.reference ?? image.name;
    if (reference === undefined) {
      throw new CryoboxError('invalid_argument', `${path} names no image: give a reference for it`);
    }
    return await this.publish(tenant, reference, image);
  }

  /** Builds an image from Debian packages. */
  async build(tenant: string, name: string, options: BuildOptions): Promise<PullResult> {
    parseReference(name);
    const image = await buildDebianImage({
      suite: options.fromDebian,
      packages: options.packages ?? [],
      store: this.blobs,
      scratchDirectory: this.#scratch,
      signal: options.signal,
      onProgress: (message) => options.onProgress?.({ stage: message, doneBytes: 0 }),
    });
    return await this.publish(tenant, name, image);
  }

  /** Makes a reference of a tenant point at an image whose blobs are all here. */
  async publish(tenant: string, name: string, image: Image): Promise<PullResult> {
    const parsed = parseReference(name);
    const reference = formatReference(parsed);
    const facts = {
      manifest_digest: image.manifestDigest,
      config_digest: image.configDigest,
      config: JSON.stringify(image.config),
      layers: JSON.stringify(image.layers),
      size_bytes: image.sizeBytes,
      cached_at: Date.now(),
    };
    await this.#needs.db
      .insertInto('images')
      .values({
        id: newId('img'),
        tenant,
        reference,
        repository: shortRepository(parsed),
        tag: parsed.tag ?? '',
        ...facts,
      })
      .onConflict((c) => c.columns(['tenant', 'reference']).doUpdateSet(facts))
      .execute();
    return {
      reference,
      configDigest: image.configDigest,
      manifestDigest: image.manifestDigest,
      layerCount: image.layers.length,
      sizeBytes: image.sizeBytes,
    };
  }

  async #knownDisk(manifestDigest: string, sizeGb: number): Promise<LayerRow | undefined> {
    return await this.#needs.db
      .selectFrom('image_disks')
      .innerJoin('layers', 'layers.id', 'image_disks.layer_id')
      .selectAll('layers')
      .where('manifest_digest', '=', manifestDigest)
      .where('size_gb', '=', sizeGb)
      .executeTakeFirst();
  }

  async #buildDisk(
    row: ImageRow,
    sizeGb: number,
    options: Pick<CreateOptions, 'signal' | 'onProgress'>,
  ): Promise<LayerRow> {
    const { layers, db, logger } = this.#needs;
    const image = await loadImage(this.blobs, row.manifest_digest, defaultImageLimits);
    const layer = layers.newRow({
      kind: 'raw',
      parent_id: null,
      state: 'sealed',
      virtual_bytes: sizeGb * bytesPerGb,
    });
    const disk = await buildBaseDisk({
      path: layers.path(layer.id),
      identity: row.manifest_digest,
      layers: layerSources(this.blobs, image),
      sizeBytes: layer.virtual_bytes,
      signal: options.signal,
      onProgress: ({ bytes, layer: index }) =>
        options.onProgress?.({ stage: 'unpack', item: image.layers[index]?.digest, doneBytes: bytes }),
    });
    logger.info('built a base disk', { image: row.reference, sizeGb, buildMs: Math.round(disk.buildMs) });
    const sealed = { ...layer, size_bytes: await layers.seal(layer.id) };
    await db.transaction().execute(async (tx) => {
      await tx.insertInto('layers').values(sealed).execute();
      const disk = { manifest_digest: row.manifest_digest, size_gb: sizeGb, layer_id: sealed.id };
      await tx.insertInto('image_disks').values(disk).execute();
      await hold(tx, `image:${row.manifest_digest}`, [sealed.id]);
    });
    return sealed;
  }
}

function asProgress(progress: { digest: string; bytes: number; totalBytes?: number }): {
  stage: string;
  item: string;
  doneBytes: number;
  totalBytes?: number;
} {
  return {
    stage: 'layer',
    item: progress.digest,
    doneBytes: progress.bytes,
    totalBytes: progress.totalBytes,
  };
}
