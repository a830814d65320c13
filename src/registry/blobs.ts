import { CryoboxError, isCryoboxError } from '../errors.js';
import type { BlobStore } from '../image/store.js';
import { failureOfConnection, RegistryFailure } from './failure.js';
import type { RegistryClient } from './registry.js';
import { retry } from './retry.js';

/** A registry that was killed is back within this many growing pauses, about half a minute. */
const attempts = 8;

/** A blob as a manifest names it. */
interface WantedBlob {
  readonly repository: string;
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Options of {@link downloadBlob}. */
interface DownloadOptions {
  readonly client: RegistryClient;
  readonly store: BlobStore;
  readonly blob: WantedBlob;
  readonly signal: AbortSignal;
  /** Called with the bytes on disk so far. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Downloads a blob into the store, going on where a connection broke, also in an earlier process. Throws
 * `image_invalid` for content or length other than promised, `image_pull_failed` when the registry keeps ending early.
 */
export async function downloadBlob({
  client,
  store,
  blob,
  signal,
  onProgress,
}: DownloadOptions): Promise<void> {
  let reached = 0;
  let lastReached = 0;
  let resumed = false;
  const attempt = async (): Promise<void> => {
    await store.put(blob.digest, {
      sizeBytes: blob.sizeBytes,
      resumable: true,
      signal,
      open: (offset) => {
        resumed = offset > 0;
        return Promise.resolve(blobBytes(client, blob, offset, signal));
      },
      onProgress: (bytes) => {
        reached = bytes;
        onProgress(bytes);
      },
    });
  };
  const madeProgress = (): boolean => {
    const more = reached > lastReached;
    lastReached = reached;
    return more;
  };
  try {
    await retry(attempt, { attempts, signal, madeProgress });
  } catch (error) {
    // What an earlier process left may be damaged by a crash: the store has dropped it, so once more from the start.
    if (!isCryoboxError(error, 'image_invalid') || !resumed) throw error;
    await retry(attempt, { attempts, signal, madeProgress });
  }
}

/** A blob's bytes from an offset on. A registry that knows no ranges sends all, and the begin is passed over. */
async function* blobBytes(
  client: RegistryClient,
  blob: WantedBlob,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const what = `the blob ${blob.digest} of ${blob.repository}`;
  const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
  const response = await client.get({
    repository: blob.repository,
    path: `blobs/${blob.digest}`,
    what,
    headers,
    signal,
  });
  const { statusCode, body } = response;
  let skip = 0;
  if (statusCode === 206) checkRange(response.headers['content-range'], offset, what, client.registry);
  else skip = offset;
  const promised = blob.sizeBytes - (statusCode === 206 ? offset : 0);
  const announced = response.headers['content-length'];
  if (announced !== undefined && Number(announced) !== promised) {
    body.destroy();
    throw new CryoboxError(
      'image_invalid',
      `${client.registry} announces ${String(announced)} bytes of ${what}, its manifest says ${promised}`,
    );
  }
  let left = promised;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      left -= chunk.length;
      const passed = Math.min(skip, chunk.length);
      skip -= passed;
      if (passed < chunk.length) yield chunk.subarray(passed);
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw failureOfConnection(error, what, client.registry);
  } finally {
    body.destroy();
  }
  if (left > 0) throw endedEarly(what, client.registry, left);
}

function checkRange(
  header: string | string[] | undefined,
  offset: number,
  what: string,
  registry: string,
): void {
  const start = /^bytes (\d+)-/.exec(typeof header === 'string' ? header : '')?.[1];
  if (Number(start) === offset) return;
  throw new CryoboxError(
    'image_invalid',
    `${registry} sent another range of ${what} than the one from ${offset} on`,
  );
}

function endedEarly(what: string, registry: string, missing: number): RegistryFailure {
  const text = `${registry} ended ${what} ${missing} bytes too early`;
  return new RegistryFailure(new CryoboxError('image_pull_failed', text), true);
}
