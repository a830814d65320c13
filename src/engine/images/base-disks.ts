import type { ProgressOptions } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { KeyedMutex } from '../../base/mutex.js';
import { CryoboxError } from '../../errors.js';
import { buildBaseDisk, defaultImageLimits, type LayerSource } from '../../formats/oci/index.js';
import { type BlobStore, type Image, layerSources, loadImage } from '../../image/index.js';
import {
  type Database,
  findImageDisk,
  type GroupCommit,
  type ImageRow,
  insertImageDisk,
  type LayerRow,
} from '../../store/index.js';
import type { LayerFiles } from '../layers/layer-files.js';

const bytesPerGb = 1024 ** 3;

/** Bases are made at this size, or smaller for smaller boxes; a larger box's file system is grown by its agent. */
export const largestBaseGb = 10;

interface Content {
  readonly image: Image;
  readonly layers: readonly LayerSource[];
}

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
    const { blobs } = this.#needs;
    const load = async (): Promise<Content> => {
      const image = await loadImage(blobs, row.manifest_digest, defaultImageLimits);
      return { image, layers: layerSources(blobs, image) };
    };
    return await this.#once(row.manifest_digest, Math.min(diskSizeGb, largestBaseGb), load, options);
  }

  /** The base disk of an image whose layers open as they arrive. */
  async ofArriving(
    image: Image,
    layers: readonly LayerSource[],
    signal: AbortSignal | undefined,
  ): Promise<LayerRow> {
    const content = (): Promise<Content> => Promise.resolve({ image, layers });
    return await this.#once(image.manifestDigest, largestBaseGb, content, { signal });
  }

  /** Builds of the same disk wait for each other; who gives up while it waits leaves at once. */
  async #once(
    manifestDigest: string,
    sizeGb: number,
    load: () => Promise<Content>,
    options: ProgressOptions,
  ): Promise<LayerRow> {
    const { db } = this.#needs;
    const known = await findImageDisk(db, { manifestDigest, sizeGb });
    if (known) return known;
    const { signal } = options;
    let isMyTurn = false;
    const built = this.#building.run(`${manifestDigest}/${sizeGb}`, async () => {
      isMyTurn = true;
      if (signal?.aborted) throw gaveUp(signal);
      const made = await findImageDisk(db, { manifestDigest, sizeGb });
      return made ?? (await this.#build(sizeGb, await load(), options));
    });
    return signal ? await unlessAborted(built, signal, () => !isMyTurn) : await built;
  }

  async #build(sizeGb: number, { image, layers }: Content, options: ProgressOptions): Promise<LayerRow> {
    const { layers: files, logger } = this.#needs;
    const virtual_bytes = sizeGb * bytesPerGb;
    const layer = files.newRow({ kind: 'raw', parent_id: null, state: 'sealed', virtual_bytes });
    const { buildMs } = await buildBaseDisk({
      path: files.path(layer.id),
      identity: image.manifestDigest,
      layers,
      workingDir: image.config.workingDir,
      sizeBytes: virtual_bytes,
      signal: options.signal,
      onProgress: ({ bytes, layer: index }) =>
        options.onProgress?.({ stage: 'unpack', item: image.layers[index]?.digest, doneBytes: bytes }),
    });
    logger.info('built a base disk', { image: image.manifestDigest, sizeGb, buildMs: Math.round(buildMs) });
    return await this.#publish(layer, image.manifestDigest, sizeGb);
  }

  async #publish(layer: LayerRow, manifestDigest: string, sizeGb: number): Promise<LayerRow> {
    const { layers, commits } = this.#needs;
    const sealed = { ...layer, size_bytes: await layers.seal(layer.id) };
    await commits.run((tx) => insertImageDisk(tx, { manifestDigest, sizeGb }, sealed));
    return sealed;
  }
}

/** A promise's result, unless the signal fires while leaving it behind is allowed. */
async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  mayLeave: () => boolean,
): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const leave = (): void => {
      if (mayLeave()) reject(gaveUp(signal));
    };
    signal.addEventListener('abort', leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
    if (signal.aborted) leave();
  });
}

function gaveUp(signal: AbortSignal): CryoboxError {
  return new CryoboxError('cancelled', 'waiting for the base disk was cancelled', { cause: signal.reason });
}
