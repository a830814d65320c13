import { join } from 'node:path';
import type { BuildOptions, ProgressOptions, PullOptions, PullResult } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError } from '../../errors.js';
import {
  BlobStore,
  buildBaseDisk,
  buildDebianImage,
  formatReference,
  type Image,
  type ImageConfig,
  importImage,
  Puller,
  type PullProgress,
  type PullRegistry,
  parsePlatform,
  parseReference,
  shortRepository,
} from '../../image/index.js';
import type { Database, GroupCommit, ImageRow, LayerRow } from '../../store/index.js';
import type { HomePaths } from '../home.js';
import type { LayerFiles } from '../layer-files.js';
import { BaseDisks, largestBaseGb } from './base-disks.js';

interface ImageNeeds {
  readonly paths: HomePaths;
  readonly db: Database;
  readonly commits: GroupCommit;
  readonly layers: LayerFiles;
  readonly logger: Logger;
}

/** An image of a tenant, ready to make boxes from. */
export interface StoredImage {
  readonly row: ImageRow;
  readonly config: ImageConfig;
}

/** The images of a home: blobs by digest, references in the database. */
export class ImageStore {
  readonly blobs: BlobStore;
  readonly disks: BaseDisks;
  readonly #needs: ImageNeeds;
  readonly #scratch: string;
  readonly #puller: Puller;
  /** Pulls, imports and builds under way: their blobs have no reference yet. */
  #arriving = 0;

  constructor(needs: ImageNeeds) {
    this.#needs = needs;
    this.blobs = new BlobStore(needs.paths.images);
    this.disks = new BaseDisks({ ...needs, blobs: this.blobs });
    this.#scratch = join(needs.paths.scratch, 'images');
    this.#puller = new Puller({ store: this.blobs });
  }

  /** Whether blobs without a reference may be about to get one. */
  get isBusy(): boolean {
    return this.#arriving > 0;
  }

  /** Ends connections to registries. */
  async close(): Promise<void> {
    await this.#puller.close();
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

  /** The image a new box is made of; one that is not here is pulled. Throws `image_not_found` and what a pull throws. */
  async require(tenant: string, reference: string, options: ProgressOptions): Promise<StoredImage> {
    const here = await this.find(tenant, reference);
    if (here) return here;
    await this.pull(tenant, reference, { ...options, pullPolicy: 'missing' });
    const image = await this.find(tenant, reference);
    if (image) return image;
    throw new CryoboxError('image_not_found', `there is no image ${JSON.stringify(reference)} here`, {
      details: { image: reference },
    });
  }

  /** Brings an image from its registry, its base disk made while the layers arrive. */
  async pull(tenant: string, reference: string, options: PullOptions): Promise<PullResult> {
    const parsed = parseReference(reference);
    const { pullPolicy = 'always' } = options;
    const here = pullPolicy === 'always' ? undefined : await this.find(tenant, reference);
    if (here) return resultOf(here.row);
    if (pullPolicy === 'never') {
      throw new CryoboxError('image_not_found', `there is no image ${JSON.stringify(reference)} here`, {
        details: { image: reference },
      });
    }
    return await this.#arrive(async () => {
      let disk: Promise<LayerRow> | undefined;
      const image = await this.#puller.pull(parsed, {
        platform: options.platform === undefined ? undefined : parsePlatform(options.platform),
        registry: registryOf(options),
        signal: options.signal,
        onProgress: (progress) => options.onProgress?.(asProgress(progress)),
        onResolved: ({ image: resolved, layerReady }) => {
          disk = this.#diskWhileArriving(resolved, layerReady, options);
          disk.catch(() => undefined);
        },
      });
      await disk;
      return await this.publish(tenant, reference, image);
    });
  }

  /** Copies an image from the host's files. */
  async import(
    tenant: string,
    path: string,
    options: ProgressOptions & { readonly reference?: string },
  ): Promise<PullResult> {
    if (options.reference !== undefined) parseReference(options.reference);
    return await this.#arrive(async () => {
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
    });
  }

  /** Builds an image from Debian packages. */
  async build(tenant: string, name: string, options: BuildOptions): Promise<PullResult> {
    parseReference(name);
    return await this.#arrive(async () => {
      const image = await buildDebianImage({
        suite: options.fromDebian,
        packages: options.packages ?? [],
        store: this.blobs,
        scratchDirectory: this.#scratch,
        signal: options.signal,
        onProgress: (message) => options.onProgress?.({ stage: message, doneBytes: 0 }),
      });
      return await this.publish(tenant, name, image);
    });
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
    const row = {
      id: newId('img'),
      tenant,
      reference,
      repository: shortRepository(parsed),
      tag: parsed.tag ?? '',
    };
    await this.#needs.commits.run((tx) =>
      tx
        .insertInto('images')
        .values({ ...row, ...facts })
        .onConflict((c) => c.columns(['tenant', 'reference']).doUpdateSet(facts))
        .execute(),
    );
    return resultOf({ ...row, ...facts });
  }

  async #arrive<T>(task: () => Promise<T>): Promise<T> {
    this.#arriving += 1;
    try {
      return await task();
    } finally {
      this.#arriving -= 1;
    }
  }

  async #diskWhileArriving(
    image: Image,
    layerReady: (digest: string) => Promise<void>,
    options: PullOptions,
  ): Promise<LayerRow> {
    return await this.disks.once(image.manifestDigest, largestBaseGb, (layer) =>
      buildBaseDisk({
        path: this.#needs.layers.path(layer.id),
        identity: image.manifestDigest,
        sizeBytes: layer.virtual_bytes,
        signal: options.signal,
        layers: image.layers.map(({ digest, diffId }) => ({
          digest,
          diffId,
          open: async (signal) => {
            await layerReady(digest);
            return this.blobs.open(digest, signal);
          },
        })),
      }),
    );
  }
}

function resultOf(
  row: Pick<ImageRow, 'reference' | 'config_digest' | 'manifest_digest' | 'layers' | 'size_bytes'>,
): PullResult {
  return {
    reference: row.reference,
    configDigest: row.config_digest,
    manifestDigest: row.manifest_digest,
    layerCount: (JSON.parse(row.layers) as unknown[]).length,
    sizeBytes: row.size_bytes,
  };
}

function registryOf({ registry }: PullOptions): PullRegistry | undefined {
  if (!registry) return undefined;
  const { username, password, ...settings } = registry;
  if (username === undefined) return settings;
  return { ...settings, credentials: { username, password: password ?? '' } };
}

function asProgress({
  digest,
  bytes,
  totalBytes,
}: Omit<PullProgress, 'totalBytes'> & { totalBytes?: number }) {
  return {
    stage: 'layer',
    item: digest,
    doneBytes: bytes,
    ...(totalBytes === undefined ? {} : { totalBytes }),
  };
}
