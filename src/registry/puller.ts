import { Semaphore } from '../base/mutex.js';
import { CryoboxError, isCryoboxError, wrapHostError } from '../errors.js';
import type { Descriptor } from '../formats/oci/documents.js';
import { defaultLimits, type ImageLimits } from '../formats/oci/limits.js';
import { formatPlatform, hostPlatform, type Platform } from '../formats/oci/platform.js';
import { formatReference, type ImageReference } from '../formats/oci/reference.js';
import { chooseManifest, describeImage, type Image } from '../image/image.js';
import type { BlobStore } from '../image/store.js';
import { downloadBlob } from './blobs.js';
import { type PullRegistry, RegistryClients, type Source } from './clients.js';
import { type CredentialSource, dockerConfigDirectory, dockerCredentials } from './credentials.js';
import { fetchManifest } from './manifests.js';
import { ownerReach, type Reach } from './reach.js';
import { retry } from './retry.js';
import { defaultTimeouts, type RegistrySettings, type Timeouts } from './settings.js';
import { SharedTasks } from './shared-tasks.js';

/** Blobs on their way at a time: enough to fill a line, few enough that the lowest layers come first. */
const defaultParallelDownloads = 4;
/** A registry that does not answer the first request of a pull is given up soon. */
const firstContactAttempts = 3;

/** Options of {@link Puller}. */
export interface PullerOptions {
  readonly store: BlobStore;
  /** Settings by registry, as references name it. */
  readonly registries?: Readonly<Record<string, RegistrySettings>>;
  /** @default docker's configuration: DOCKER_CONFIG or ~/.docker */
  readonly credentials?: CredentialSource;
  readonly limits?: Partial<ImageLimits>;
  /** Blobs downloaded at a time, over all pulls. @default 4 */
  readonly parallelDownloads?: number;
  readonly timeouts?: Timeouts;
}

/** How far one blob is. */
export interface PullProgress {
  readonly digest: string;
  /** Bytes on disk. */
  readonly bytes: number;
  readonly totalBytes: number;
}

/** An image whose blobs are on their way. */
export interface PullUnderWay {
  readonly image: Image;
  /** Resolves when a layer is complete in the store, fails when it cannot be had. */
  layerReady(digest: string): Promise<void>;
}

/** Options of {@link Puller.pull}. */
export interface PullOptions {
  /** In place of what the puller knows of the registry. */
  readonly registry?: PullRegistry;
  /** Hosts that may be asked. @default those a user of this host can ask */
  readonly reach?: Reach;
  /** @default Linux on the host's processor */
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
  /** Called for each layer as it grows, and once for one that was there. */
  readonly onProgress?: (progress: PullProgress) => void;
  /** Called when manifest and config are known, so that layers can be used as they arrive. */
  readonly onResolved?: (underWay: PullUnderWay) => void;
}

/** Pulls images from registries into a store. Pulls of the same image, and of the same layer, at once are one. */
export class Puller {
  readonly #store: BlobStore;
  readonly #limits: ImageLimits;
  readonly #slots: Semaphore;
  readonly #clients: RegistryClients;
  readonly #resolving = new SharedTasks<ResolvedImage, never>();
  readonly #downloads = new SharedTasks<void, number>();

  constructor(options: PullerOptions) {
    this.#store = options.store;
    this.#clients = new RegistryClients({
      registries: options.registries ?? {},
      credentials: options.credentials ?? dockerCredentials(dockerConfigDirectory()),
      timeouts: options.timeouts ?? defaultTimeouts,
    });
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#slots = new Semaphore(options.parallelDownloads ?? defaultParallelDownloads);
  }

  /**
   * Brings the image a reference names now, for a platform, into the store: manifest, config and layers, each verified.
   * What is in the store is not asked for again. When it fails, only complete blobs and resumable parts stay.
   *
   * Throws `image_not_found`, `unauthenticated`, `permission_denied`, `resource_exhausted` (429), `upstream_unavailable`
   * (5xx), `network_unavailable`, `image_invalid`, `image_refused`, `unsupported` (platform), `image_pull_failed`,
   * `disk_full`, `cancelled`, `config_error` (credentials).
   */
  async pull(reference: ImageReference, options: PullOptions = {}): Promise<Image> {
    const { signal, reach = ownerReach } = options;
    const platform = options.platform ?? hostPlatform();
    try {
      const sources = this.#clients.sourcesOf(reference, reach, options.registry);
      const start = (own: AbortSignal): Promise<ResolvedImage> =>
        this.#resolve(reference, platform, sources, own);
      // Who comes with other credentials asks for itself: an answer to one is none of another's business.
      const asked = [formatReference(reference), formatPlatform(platform), options.registry, reach];
      const key = JSON.stringify(asked);
      const { image, sources: usable } = await this.#resolving.run(key, start, { signal });
      await this.#pullLayers(image, usable, options);
      return image;
    } catch (error) {
      if (signal?.aborted) throw new CryoboxError('cancelled', 'the pull was cancelled', { cause: error });
      throw wrapHostError(error, `cannot pull ${formatReference(reference)}`, 'image_pull_failed');
    }
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.#clients.close();
  }

  async #pullLayers(image: Image, sources: readonly Source[], options: PullOptions): Promise<void> {
    // One layer's failure ends the wait for the others; they stop unless another pull wants them too.
    const failed = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal;
    const waits = new Map<string, Promise<void>>();
    for (const { digest, sizeBytes } of image.layers) {
      if (waits.has(digest)) continue;
      const onProgress = (bytes: number): void =>
        options.onProgress?.({ digest, bytes, totalBytes: sizeBytes });
      waits.set(digest, this.#pullBlob(sources, digest, sizeBytes, signal, onProgress));
    }
    options.onResolved?.({ image, layerReady: (digest) => waits.get(digest) ?? Promise.resolve() });
    try {
      await Promise.all(waits.values());
    } catch (error) {
      failed.abort();
      await Promise.allSettled(waits.values());
      throw error;
    }
  }

  async #resolve(
    reference: ImageReference,
    platform: Platform,
    all: readonly Source[],
    signal: AbortSignal,
  ): Promise<ResolvedImage> {
    const { repository } = reference;
    const tagOrDigest = reference.digest ?? reference.tag ?? '';
    return await firstThatWorks(all, signal, async (source) => {
      const fetch = async (name: string): Promise<{ digest: string; bytes: Buffer }> =>
        await retry(() => fetchManifest(source.client, repository, name, this.#limits, signal), {
          attempts: firstContactAttempts,
          signal,
        });
      const read = async ({ digest }: Pick<Descriptor, 'digest' | 'size'>): Promise<Buffer> =>
        (await fetch(digest)).bytes;
      const chosen = await chooseManifest(await fetch(tagOrDigest), platform, read, this.#limits);
      // The source that answered first, then the ones behind it for what it lacks.
      const sources = all.slice(all.indexOf(source));
      const { digest, size } = chosen.manifest.config;
      if (size > this.#limits.maxDocumentBytes) {
        throw new CryoboxError(
          'image_refused',
          `the image's config has ${size} bytes; at most ${this.#limits.maxDocumentBytes} are read`,
        );
      }
      await this.#pullBlob(sources, digest, size, signal, () => undefined);
      const configBytes = await this.#store.readDocument(digest, this.#limits.maxDocumentBytes);
      const image = describeImage(chosen, configBytes, platform);
      await this.#store.putBytes(chosen.bytes);
      return { image, sources };
    });
  }

  async #pullBlob(
    sources: readonly Source[],
    digest: string,
    sizeBytes: number,
    signal: AbortSignal,
    onProgress: (bytes: number) => void,
  ): Promise<void> {
    const start = async (own: AbortSignal, report: (bytes: number) => void): Promise<void> => {
      const present = await this.#store.verifiedSize(digest, own);
      if (present === sizeBytes) return;
      if (present !== undefined) throw wrongSize(digest, sizeBytes, present);
      await this.#slots.run(async () => {
        await firstThatWorks(sources, own, async ({ client, repository }) => {
          const blob = { repository, digest, sizeBytes };
          await downloadBlob({ client, store: this.#store, blob, signal: own, onProgress: report });
        });
      });
    };
    await this.#downloads.run(digest, start, { signal, onProgress });
    onProgress(sizeBytes);
  }
}

function wrongSize(digest: string, expected: number, actual: number): CryoboxError {
  return new CryoboxError(
    'image_invalid',
    `the manifest says ${digest} has ${expected} bytes, it has ${actual}`,
  );
}

interface ResolvedImage {
  readonly image: Image;
  readonly sources: readonly Source[];
}

/** Tries sources in order; the last one, the registry itself, has the last word on why it failed. */
async function firstThatWorks<T>(
  sources: readonly Source[],
  signal: AbortSignal,
  task: (source: Source) => Promise<T>,
): Promise<T> {
  for (const [index, source] of sources.entries()) {
    try {
      return await task(source);
    } catch (error) {
      const isLast = index === sources.length - 1;
      if (isLast || signal.aborted || isCryoboxError(error, 'disk_full')) throw error;
    }
  }
  throw new CryoboxError('internal', 'there is no registry to ask');
}
