import type { LayerSource } from '../formats/oci/base-disk.js';
import type { ImageReference } from '../formats/oci/reference.js';
import { type Image, layerSources } from '../image/image.js';
import type { BlobStore } from '../image/store.js';
import type { Puller, PullOptions, PullUnderWay } from './puller.js';

/** Options of {@link pullToDisk}. */
export interface PullToDiskOptions<D> extends Omit<PullOptions, 'onResolved'> {
  readonly puller: Puller;
  readonly store: BlobStore;
  readonly reference: ImageReference;
  /** Makes the disk of the image from its layers, each of which opens as soon as it has arrived. */
  readonly makeDisk: (image: Image, layers: readonly LayerSource[], signal: AbortSignal) => Promise<D>;
}

/**
 * Pulls an image and makes its base disk at the same time: each layer is unpacked as soon as it and those below it are
 * complete. Throws what {@link Puller.pull} and `makeDisk` throw, after both have ended.
 */
export async function pullToDisk<D>(
  options: PullToDiskOptions<D>,
): Promise<{ readonly image: Image; readonly disk: D }> {
  const { puller, store, reference, makeDisk } = options;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  let making: Promise<D> | undefined;
  const onResolved = ({ image, layerReady }: PullUnderWay): void => {
    const layers = layerSources(store, image).map((layer) => ({
      ...layer,
      open: async (own?: AbortSignal) => {
        await layerReady(layer.digest);
        return await layer.open(own);
      },
    }));
    making = makeDisk(image, layers, signal);
    // A refused layer makes the rest of the download pointless.
    making.catch(() => stop.abort());
  };
  try {
    const image = await puller.pull(reference, { ...options, signal, onResolved });
    if (!making) throw new Error('the pull ended before the image was known');
    return { image, disk: await making };
  } catch (error) {
    stop.abort();
    const [made] = await Promise.allSettled([making]);
    const isOwnStop =
      options.signal?.aborted !== true && made.status === 'rejected' && !isOurAbort(made.reason);
    throw isOwnStop ? made.reason : error;
  }
}

/** Whether a build ended only because it was told to, so that the pull's own error says more. */
function isOurAbort(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 'cancelled';
}
