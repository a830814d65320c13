import { rm } from 'node:fs/promises';
import { type BaseDisk, type BuildBaseDiskOptions, buildBaseDisk } from '../base-disk.js';
import { type Image, layerSources } from '../image.js';
import type { ImageReference } from '../reference.js';
import type { BlobStore } from '../store.js';
import type { Puller, PullOptions, PullUnderWay } from './puller.js';

/** Options of {@link pullToDisk}. */
export interface PullToDiskOptions extends Omit<PullOptions, 'onResolved'> {
  readonly puller: Puller;
  readonly store: BlobStore;
  readonly reference: ImageReference;
  /** What to build once the image is known; undefined when its disk exists already. */
  readonly chooseDisk: (
    image: Image,
  ) => Promise<Pick<BuildBaseDiskOptions, 'path' | 'sizeBytes' | 'limits'> | undefined>;
}

/**
 * Pulls an image and builds its base disk at the same time: each layer is unpacked as soon as it and those below it are
 * complete. Throws what {@link Puller.pull} and {@link buildBaseDisk} throw; then there is no disk.
 */
export async function pullToDisk(
  options: PullToDiskOptions,
): Promise<{ readonly image: Image; readonly disk: BaseDisk | undefined }> {
  const { puller, store, reference, chooseDisk } = options;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  let path: string | undefined;
  let building: Promise<BaseDisk | undefined> = Promise.resolve(undefined);
  const build = async ({ image, layerReady }: PullUnderWay): Promise<BaseDisk | undefined> => {
    const chosen = await chooseDisk(image);
    if (!chosen) return undefined;
    path = chosen.path;
    const layers = layerSources(store, image).map((layer) => ({
      ...layer,
      open: async (own?: AbortSignal) => {
        await layerReady(layer.digest);
        return await layer.open(own);
      },
    }));
    return await buildBaseDisk({ ...chosen, identity: image.manifestDigest, layers, signal });
  };
  const onResolved = (underWay: PullUnderWay): void => {
    building = build(underWay);
    // A refused layer makes the rest of the download pointless.
    building.catch(() => stop.abort());
  };
  try {
    const image = await puller.pull(reference, { ...options, signal, onResolved });
    return { image, disk: await building };
  } catch (error) {
    stop.abort();
    const [built] = await Promise.allSettled([building]);
    if (built.status === 'fulfilled' && path !== undefined) await rm(path, { force: true });
    const isOwnStop =
      options.signal?.aborted !== true && built.status === 'rejected' && !isOurAbort(built.reason);
    throw isOwnStop ? built.reason : error;
  }
}

/** Whether a build ended only because it was told to, so that the pull's own error says more. */
function isOurAbort(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 'cancelled';
}
