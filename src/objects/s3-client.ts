import { addAbortSignal, type Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { CryoboxError, errnoOf, isCryoboxError, messageOf } from '../errors.js';
import { damagedObject, noObject, objectExists, PassingFailure } from './failures.js';
import { objectLimits } from './object-store.js';

/** Where a bucket is. Who asks for it is said where Amazon's tools look: `AWS_ACCESS_KEY_ID`, profiles, roles. */
export interface S3Place {
  readonly bucket: string;
  /** Before every key, without a slash at its end; empty: nothing. */
  readonly prefix: string;
  /** Of a server that is not Amazon's, such as `https://store.example:7070`. @default `AWS_ENDPOINT_URL_S3`, else Amazon's */
  readonly endpoint?: string | undefined;
  /** @default `AWS_REGION`, else `us-east-1` */
  readonly region?: string | undefined;
}

/** Amazon's client. */
export type S3Library = typeof import('@aws-sdk/client-s3');

/** Loads Amazon's client, which only those have who use it. Throws `config_error` when it is not installed. */
export async function loadS3(): Promise<S3Library> {
  return await load('@aws-sdk/client-s3', (name) => import(name));
}

/** Loads what makes URLs that are signed beforehand. Throws `config_error` when it is not installed. */
export async function loadPresigner(): Promise<typeof import('@aws-sdk/s3-request-presigner')> {
  return await load('@aws-sdk/s3-request-presigner', (name) => import(name));
}

/** By a name that is not written where it is imported: who bundles a program without it need not have it. */
async function load<T>(name: string, importIt: (name: string) => Promise<T>): Promise<T> {
  try {
    return await importIt(name);
  } catch (error) {
    throw new CryoboxError('config_error', `stores of the S3 protocol need ${name}: ${firstLine(error)}`, {
      cause: error,
      hint: `Run \`npm install ${name}\` where cryobox is installed, or use a directory as the store.`,
    });
  }
}

function firstLine(error: unknown): string {
  return messageOf(error).split('\n')[0] ?? '';
}

/** A client of a bucket's server. */
export function s3Client({ S3Client: Client }: S3Library, { endpoint, region }: S3Place): S3Client {
  return new Client({
    region: region ?? process.env['AWS_REGION'] ?? 'us-east-1',
    ...(endpoint === undefined ? {} : { endpoint }),
    // Names of buckets below the host are for Amazon's own servers.
    forcePathStyle: endpoint !== undefined,
    // Repeated by `attempts`, which also repeats answers that break off.
    maxAttempts: 1,
    // Else URLs that are signed beforehand have the sum of an empty body. What is put has its MD5 instead.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: 10_000, requestTimeout: objectLimits.attemptMs },
  });
}

/** What tells the failures of one request. */
export interface S3Request {
  /** How messages name the store. */
  readonly store: string;
  readonly bucket: string;
  readonly key: string;
}

const passingStatuses = new Set([408, 409, 429, 500, 502, 503, 504]);

/** The failure of a request, typed; one that may pass is a {@link PassingFailure}. */
export function s3Failure(error: unknown, { store, bucket, key }: S3Request): unknown {
  if (isCryoboxError(error) || error instanceof PassingFailure) return error;
  const { name = '', $metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } };
  const status = $metadata?.httpStatusCode;
  const said = `${store} answered ${status} ${name}`;
  if (name === 'NoSuchBucket') {
    return new CryoboxError('config_error', `there is no bucket ${bucket} in ${store}`, {
      cause: error,
      hint: `Make the bucket ${bucket}, or name another one.`,
    });
  }
  if (name === 'CredentialsProviderError' || status === 401 || status === 403) {
    return refused(error, status === undefined ? messageOf(error) : said, bucket);
  }
  if (status === 404) return noObject(store, key);
  if (status === 412) return objectExists(store, key);
  if (status === 416) return damagedObject(store, key, 'ends early');
  if (status === 507) return new CryoboxError('disk_full', `${said}: it is full`, { cause: error });
  if (status === undefined ? isOfConnection(error) : passingStatuses.has(status)) {
    return new PassingFailure(status === undefined ? messageOf(error) || errnoOf(error) || name : said, {
      cause: error,
    });
  }
  return new CryoboxError('storage_error', `${said} to a request for ${key}: ${messageOf(error)}`, {
    cause: error,
    hint: 'Check the address of the object store; it must know the S3 protocol.',
  });
}

function refused(error: unknown, said: string, bucket: string): CryoboxError {
  return new CryoboxError('config_error', `the object store refuses this host: ${said}`, {
    cause: error,
    hint: `Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may read, write and list ${bucket}; check the clock.`,
  });
}

/** Whether it is the connection that failed, not the program. */
function isOfConnection(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isOfConnection);
  const code = errnoOf(error) ?? '';
  const { name = '' } = error as { name?: string };
  return /^(E[A-Z]+|ERR_STREAM|HPE_|UND_)/.test(code) || ['TimeoutError', 'AbortError'].includes(name);
}

/** All bytes of an answer, at most `limit`. Throws {@link PassingFailure} when it breaks off or is longer. */
export async function bodyOf(body: Readable, limit: number, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of addAbortSignal(signal, body) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limit) throw new Error(`it has more than ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw new PassingFailure(`the answer broke off: ${messageOf(error)}`, { cause: error });
  } finally {
    body.destroy();
  }
  return Buffer.concat(chunks);
}
