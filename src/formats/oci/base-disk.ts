import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { TarReader } from '../../base/tar/reader.js';
import { CryoboxError, isCryoboxError, wrapHostError } from '../../errors.js';
import { Ext4Builder } from '../ext4/builder.js';
import { decompress } from './decompress.js';
import { digestFrom } from './digest.js';
import { LayerStack } from './layer.js';
import { defaultLimits, type ImageLimits } from './limits.js';

/** What headers and padding of an entry take in a tar, with room for a long name. */
const overheadBytes = 4096;

const gibibyte = 1024 ** 3;
/** Virtual size of a base disk: every box of the default shape has it. The file is sparse. */
const defaultBaseDiskBytes = 10 * gibibyte;

/** One layer to be unpacked. */
export interface LayerSource {
  /** Digest of the layer as stored, for messages. */
  readonly digest: string;
  /** Digest of the unpacked tar (`rootfs.diff_ids` of the config), which is verified. */
  readonly diffId: string;
  /** The layer's bytes as stored, gzip, zstd or plain. May wait until the layer has been downloaded. */
  open(signal?: AbortSignal): Promise<AsyncIterable<Buffer>>;
}

/** Options of {@link buildBaseDisk}. */
export interface BuildBaseDiskOptions {
  /** Where the raw ext4 image goes; must not exist. Removed again on failure. */
  readonly path: string;
  /** Digest that names the image; decides the file system's uuid. */
  readonly identity: string;
  /** Lowest first. */
  readonly layers: readonly LayerSource[];
  /** A directory that is there in the end, whatever the layers have. Not made where a file is in the way. @default none */
  readonly workingDir?: string;
  /** A multiple of 128 MiB. @default 10 GiB */
  readonly sizeBytes?: number;
  readonly limits?: Partial<ImageLimits>;
  readonly signal?: AbortSignal;
  /** Called after each layer and while one is unpacked, with layers done and bytes of the current one. */
  readonly onProgress?: (progress: {
    readonly layer: number;
    readonly layers: number;
    readonly bytes: number;
  }) => void;
}

/** What {@link buildBaseDisk} made. */
export interface BaseDisk {
  /** Virtual size. */
  readonly sizeBytes: number;
  /** What the file takes on the host. */
  readonly usedBytes: number;
  readonly buildMs: number;
}

/**
 * Unpacks layers into a new ext4 image, as any user, without scratch files, reading each layer once. The same layers
 * give the same bytes on every host. The file is durable when this returns, and gone when it throws.
 *
 * Throws `image_invalid` (damaged, wrong digest), `image_refused` (hostile, too large), `disk_full`, `cancelled`.
 */
export async function buildBaseDisk(options: BuildBaseDiskOptions): Promise<BaseDisk> {
  const startedAt = performance.now();
  const limits = { ...defaultLimits, ...options.limits };
  const sizeBytes = options.sizeBytes ?? defaultBaseDiskBytes;
  try {
    const disk = await Ext4Builder.create({ path: options.path, sizeBytes, identity: options.identity });
    try {
      const stack = new LayerStack(disk, limits);
      for (const [index, layer] of options.layers.entries())
        await applyLayer(stack, layer, index, limits, options);
      stack.addMountPlaces();
      if (options.workingDir !== undefined) stack.addDirectory(options.workingDir);
      await disk.finish(stack.root);
    } finally {
      await disk.abort();
    }
    const { blocks } = await stat(options.path);
    return { sizeBytes, usedBytes: blocks * 512, buildMs: performance.now() - startedAt };
  } catch (error) {
    if (options.signal?.aborted)
      throw new CryoboxError('cancelled', 'unpacking the image was cancelled', { cause: error });
    throw wrapHostError(error, 'cannot build the base disk');
  }
}

async function applyLayer(
  stack: LayerStack,
  layer: LayerSource,
  index: number,
  limits: ImageLimits,
  options: BuildBaseDiskOptions,
): Promise<void> {
  const { signal, onProgress } = options;
  // A stream of nothing but headers and zeros must end too.
  const maxStreamBytes = limits.maxTotalBytes + limits.maxEntries * overheadBytes;
  signal?.throwIfAborted();
  const hash = createHash('sha256');
  let bytes = 0;
  async function* hashed(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      hash.update(chunk);
      bytes += chunk.length;
      if (bytes > maxStreamBytes) throw tooLong(maxStreamBytes);
      onProgress?.({ layer: index, layers: options.layers.length, bytes });
      yield chunk;
    }
  }
  const tar = new TarReader(hashed(decompress(await layer.open(signal), signal)));
  try {
    await stack.apply(tar, signal);
    await tar.drain();
  } catch (error) {
    throw ofLayer(layer.digest, error);
  } finally {
    await tar.close();
  }
  const diffId = digestFrom(hash);
  if (diffId !== layer.diffId) {
    throw new CryoboxError(
      'image_invalid',
      `layer ${layer.digest} unpacks to ${diffId}, its image says ${layer.diffId}`,
    );
  }
}

/** Says which layer an error is about; errors of the host stay as they are. */
function ofLayer(digest: string, error: unknown): unknown {
  if (!isCryoboxError(error)) return error;
  const { code, hint, details } = error;
  return new CryoboxError(code, `layer ${digest}: ${error.message}`, { cause: error, hint, details });
}

function tooLong(limit: number): CryoboxError {
  return new CryoboxError('image_refused', `it unpacks to more than ${limit} bytes`);
}
