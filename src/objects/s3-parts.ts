import { createHash } from 'node:crypto';
import type { CompletedPart, S3Client } from '@aws-sdk/client-s3';
import { isCryoboxError } from '../errors.js';
import { type ObjectSource, objectLimits, type PutOptions } from './object-store.js';
import type { S3Library } from './s3-client.js';

/** What putting an object in parts needs of its store. */
interface PartsNeeds {
  readonly library: S3Library;
  readonly client: S3Client;
  readonly address: { readonly Bucket: string; readonly Key: string };
  /** Runs one request with its repetitions. */
  request<T>(
    what: string,
    signal: AbortSignal | undefined,
    task: (signal: AbortSignal, count: number) => Promise<T>,
  ): Promise<T>;
  /** Size of the object that is there now. */
  sizeOf(): Promise<number | undefined>;
}

/** Puts a large object: some parts at a time, and nothing is left of them when one fails. Throws as `put` does. */
export async function putInParts(
  { library, client, address, request, sizeOf }: PartsNeeds,
  source: ObjectSource,
  { ifAbsent, signal }: PutOptions,
): Promise<void> {
  const what = `putting ${address.Key}`;
  const { UploadId } = await request(what, signal, (abortSignal) =>
    client.send(new library.CreateMultipartUploadCommand({ ...address }), { abortSignal }),
  );
  const upload = { ...address, UploadId };
  const ended = new AbortController();
  const either = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal;
  try {
    const parts = await inTurns(countOf(source), async (index) => {
      const offset = index * objectLimits.partBytes;
      const body = await source.read(offset, Math.min(objectLimits.partBytes, source.sizeBytes - offset));
      const command = new library.UploadPartCommand({
        ...upload,
        PartNumber: index + 1,
        Body: body,
        ContentLength: body.length,
        ContentMD5: createHash('md5').update(body).digest('base64'),
      });
      const { ETag } = await request(what, either, (abortSignal) => client.send(command, { abortSignal }));
      return { ETag, PartNumber: index + 1 } satisfies CompletedPart;
    });
    const command = new library.CompleteMultipartUploadCommand({
      ...upload,
      MultipartUpload: { Parts: parts },
      ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
    });
    let sent = 0;
    await request(what, signal, (abortSignal, count) => {
      sent = count;
      return client.send(command, { abortSignal });
    }).catch(async (error: unknown) => {
      // The attempt before may have ended it, though its answer was lost.
      if (sent < 2 || !isCryoboxError(error, 'not_found') || (await sizeOf()) !== source.sizeBytes)
        throw error;
    });
  } catch (error) {
    ended.abort();
    // What cannot be given up now is by `abortUploads`.
    await request('giving up an upload', undefined, (abortSignal) =>
      client.send(new library.AbortMultipartUploadCommand(upload), { abortSignal }),
    ).catch(() => undefined);
    throw error;
  }
}

function countOf({ sizeBytes }: ObjectSource): number {
  return Math.ceil(sizeBytes / objectLimits.partBytes);
}

/** Results of a task for each number below `count`, some at a time. The first failure ends it, once all have come to rest. */
async function inTurns<T>(count: number, task: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  let failed = false;
  const work = async (): Promise<void> => {
    while (next < count && !failed) {
      const index = next;
      next += 1;
      try {
        results[index] = await task(index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: objectLimits.partsAtOnce }, work);
  for (const ended of await Promise.allSettled(workers)) if (ended.status === 'rejected') throw ended.reason;
  return results;
}
