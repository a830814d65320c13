import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { readFully } from '../base/files.js';
import { CryoboxError, wrapHostError } from '../errors.js';
import { decompress } from '../formats/oci/decompress.js';
import { openImageFiles } from '../formats/oci/layout.js';
import { defaultLimits, type ImageLimits } from '../formats/oci/limits.js';
import { hostPlatform, type Platform } from '../formats/oci/platform.js';
import { importDockerArchive, isDockerArchive } from './docker-archive.js';
import { type ImportedImage, type ImportRequest, importOciLayout, isOciLayout } from './oci-layout.js';
import type { BlobStore } from './store.js';

/** Options of {@link importImage}. */
export interface ImportImageOptions {
  /** A layout directory, an archive of one, or an archive of `docker save`; archives may be gzip or zstd. */
  readonly source: string;
  readonly store: BlobStore;
  /** Where a compressed archive is unpacked; emptied again. */
  readonly scratchDirectory: string;
  /** Name of the image in a source with several. */
  readonly tag?: string;
  /** @default Linux on the host's processor */
  readonly platform?: Platform;
  readonly limits?: Partial<ImageLimits>;
  readonly signal?: AbortSignal;
  readonly onProgress?: ImportRequest['onProgress'];
}

/**
 * Copies one image from a file or directory into the store, every blob verified. Layers are unpacked later, by
 * {@link buildBaseDisk}.
 *
 * Throws `invalid_argument` (nothing there, several images), `image_invalid`, `image_refused`, `unsupported` (platform),
 * `disk_full`, `cancelled`.
 */
export async function importImage(options: ImportImageOptions): Promise<ImportedImage> {
  const { signal } = options;
  const request: ImportRequest = {
    store: options.store,
    platform: options.platform ?? hostPlatform(),
    tag: options.tag,
    limits: { ...defaultLimits, ...options.limits },
    signal,
    onProgress: options.onProgress,
  };
  const scratch = join(options.scratchDirectory, `import-${randomUUID()}.tar`);
  try {
    signal?.throwIfAborted();
    const plain = await plainArchive(options.source, scratch, options.scratchDirectory, request);
    const files = await openImageFiles(plain, signal);
    if (await isOciLayout(files)) return await importOciLayout(files, request);
    if (await isDockerArchive(files)) return await importDockerArchive(files, request);
    throw new CryoboxError(
      'image_invalid',
      `${options.source} is neither an OCI layout (index.json) nor an archive of docker save (manifest.json)`,
    );
  } catch (error) {
    if (signal?.aborted)
      throw new CryoboxError('cancelled', 'importing the image was cancelled', { cause: error });
    throw wrapHostError(error, `cannot import ${options.source}`);
  } finally {
    await rm(scratch, { force: true });
  }
}

/** The source itself, or its decompressed copy: members of an archive are read where they lie, so it must be plain. */
async function plainArchive(
  source: string,
  scratch: string,
  scratchDirectory: string,
  request: ImportRequest,
): Promise<string> {
  if (!(await isCompressedFile(source))) return source;
  await mkdir(scratchDirectory, { recursive: true, mode: 0o700 });
  const { maxTotalBytes } = request.limits;
  async function* limited(): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const chunk of decompress(createReadStream(source), request.signal)) {
      bytes += chunk.length;
      if (bytes > maxTotalBytes)
        throw new CryoboxError('image_refused', `${source} unpacks to more than ${maxTotalBytes} bytes`);
      yield chunk;
    }
  }
  await pipeline(limited, createWriteStream(scratch, { mode: 0o600 }));
  return scratch;
}

/** Whether a file begins like gzip, zstd, bzip2 or xz; a tar begins with a name. */
async function isCompressedFile(path: string): Promise<boolean> {
  const facts = await stat(path).catch(() => undefined);
  if (!facts?.isFile()) return false;
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(4);
    await readFully(handle, buffer, 0);
    return ['1f8b', '28b5', '425a', 'fd37'].includes(buffer.toString('hex', 0, 2));
  } finally {
    await handle.close();
  }
}
