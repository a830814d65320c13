import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import type { CallOptions } from '../api/index.js';
import { CryoboxError, isCryoboxError } from '../errors.js';
import { attempts, damagedObject, objectExists, PassingFailure } from './failures.js';
import { checkKey, checkPrefix, checkRange, checkSize } from './keys.js';
import {
  type ListOptions,
  type ObjectFacts,
  type ObjectPage,
  type ObjectSource,
  type ObjectStore,
  objectLimits,
  type PutOptions,
  type ReadOptions,
} from './object-store.js';
import {
  bodyOf,
  loadPresigner,
  loadS3,
  type S3Library,
  type S3Place,
  s3Client,
  s3Failure,
} from './s3-client.js';
import { putInParts } from './s3-parts.js';

/** What is read again to know whether a conditional put that was sent twice was the one that won. */
const comparedBytes = 2 ** 16;

/** A method whose URL is signed beforehand. */
export type SignedMethod = 'GET' | 'PUT';

/** Objects in a bucket, over the S3 protocol. */
export class S3Store implements ObjectStore {
  readonly name: string;
  readonly #library: S3Library;
  readonly #client: S3Client;
  readonly #place: S3Place;

  private constructor(library: S3Library, place: S3Place) {
    this.#library = library;
    this.#client = s3Client(library, place);
    this.#place = place;
    const { bucket, prefix, endpoint } = place;
    this.name = `s3://${bucket}${prefix && `/${prefix}`}${endpoint ? ` at ${endpoint}` : ''}`;
  }

  /** Loads the client; asks nobody yet. Throws `config_error` when the client is not installed. */
  static async open(place: S3Place): Promise<S3Store> {
    return new S3Store(await loadS3(), place);
  }

  async put(key: string, source: ObjectSource, options: PutOptions = {}): Promise<void> {
    checkKey(key);
    checkSize(key, source.sizeBytes);
    if (source.sizeBytes > objectLimits.partBytes) {
      await putInParts(
        {
          library: this.#library,
          client: this.#client,
          address: this.#address(key),
          request: (what, signal, task) => this.#request(key, what, signal, task),
          sizeOf: async () => (await this.head(key))?.sizeBytes,
        },
        source,
        options,
      );
      return;
    }
    const body = await source.read(0, source.sizeBytes);
    const command = new this.#library.PutObjectCommand({
      ...this.#address(key),
      Body: body,
      ContentLength: body.length,
      ContentMD5: createHash('md5').update(body).digest('base64'),
      ...(options.ifAbsent ? { IfNoneMatch: '*' } : {}),
    });
    await this.#request(key, `putting ${key}`, options.signal, async (abortSignal, count) => {
      try {
        await this.#client.send(command, { abortSignal });
      } catch (error) {
        const failure = this.#failure(error, key);
        const mayBeOurs = count > 1 && options.ifAbsent && isCryoboxError(failure, 'already_exists');
        // An attempt before this one may have put it, though its answer was lost.
        if (!mayBeOurs || !(await this.#is(key, body))) throw failure;
      }
    });
  }

  async read(key: string, { offset = 0, length, atMost = false, signal }: ReadOptions): Promise<Buffer> {
    checkKey(key);
    checkRange(offset, length);
    const range = { ...this.#address(key), Range: `bytes=${offset}-${offset + length - 1}` };
    try {
      return await this.#request(key, `reading ${key}`, signal, async (abortSignal) => {
        const answer = await this.#client.send(new this.#library.GetObjectCommand(range), { abortSignal });
        const bytes = await bodyOf(answer.Body as Readable, length, abortSignal);
        if (bytes.length !== answer.ContentLength) throw new PassingFailure('the answer broke off');
        // Not all servers know ranges of all objects: then the beginning came, which was asked for or not.
        if (offset > 0 && !answer.ContentRange?.startsWith(`bytes ${offset}-`)) {
          throw new PassingFailure(`another range came: ${answer.ContentRange}`);
        }
        if (bytes.length < length && !atMost) {
          throw damagedObject(this.name, key, `ends ${length - bytes.length} bytes early`);
        }
        return bytes;
      });
    } catch (error) {
      // No byte of an object is there to be asked for when it is empty.
      if (!atMost || !isCryoboxError(error, 'integrity')) throw error;
      return Buffer.alloc(0);
    }
  }

  async head(key: string, { signal }: CallOptions = {}): Promise<ObjectFacts | undefined> {
    checkKey(key);
    try {
      return await this.#request(key, `looking at ${key}`, signal, async (abortSignal) => {
        const command = new this.#library.HeadObjectCommand(this.#address(key));
        const { ContentLength = 0, LastModified } = await this.#client.send(command, { abortSignal });
        return { key, sizeBytes: ContentLength, modifiedAt: LastModified ?? new Date(0) };
      });
    } catch (error) {
      if (isCryoboxError(error, 'not_found')) return undefined;
      throw error;
    }
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ObjectPage> {
    checkPrefix(prefix);
    const { after, limit = objectLimits.listed, signal } = options;
    const command = new this.#library.ListObjectsV2Command({
      Bucket: this.#place.bucket,
      Prefix: this.#keyOf(prefix),
      MaxKeys: limit,
      ...(after === undefined ? {} : { StartAfter: this.#keyOf(after) }),
    });
    return await this.#request(prefix, `listing ${prefix}`, signal, async (abortSignal) => {
      const { Contents = [], IsTruncated } = await this.#client.send(command, { abortSignal });
      const objects = Contents.map(({ Key = '', Size = 0, LastModified }) => ({
        key: Key.slice(this.#keyOf('').length),
        sizeBytes: Size,
        modifiedAt: LastModified ?? new Date(0),
      }));
      return { objects, next: IsTruncated ? objects.at(-1)?.key : undefined };
    });
  }

  async remove(keys: readonly string[], { signal }: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    for (let at = 0; at < keys.length; at += objectLimits.listed) {
      const some = keys.slice(at, at + objectLimits.listed);
      const command = new this.#library.DeleteObjectsCommand({
        Bucket: this.#place.bucket,
        Delete: { Objects: some.map((key) => ({ Key: this.#keyOf(key) })), Quiet: true },
      });
      await this.#request(some[0] ?? '', 'removing objects', signal, async (abortSignal) => {
        const { Errors = [] } = await this.#client.send(command, { abortSignal });
        const [first] = Errors.filter(({ Code }) => Code !== 'NoSuchKey');
        if (first) throw new PassingFailure(`${first.Key} is not removed: ${first.Code} ${first.Message}`);
      });
    }
  }

  async abortUploads({
    olderThanMs,
    signal,
  }: CallOptions & { readonly olderThanMs: number }): Promise<number> {
    const Bucket = this.#place.bucket;
    const list = new this.#library.ListMultipartUploadsCommand({ Bucket, Prefix: this.#keyOf('') });
    return await this.#request('', 'giving up uploads', signal, async (abortSignal) => {
      const { Uploads = [] } = await this.#client.send(list, { abortSignal });
      const before = Date.now() - olderThanMs;
      const old = Uploads.filter(({ Initiated }) => (Initiated?.getTime() ?? 0) <= before);
      for (const { Key, UploadId } of old) {
        const command = new this.#library.AbortMultipartUploadCommand({ Bucket, Key, UploadId });
        await this.#client.send(command, { abortSignal });
      }
      return old.length;
    });
  }

  /** A URL that lets whoever has it do one thing with one object for a time. Asks nobody. */
  async sign(method: SignedMethod, key: string, validMs: number): Promise<string> {
    checkKey(key);
    const { getSignedUrl } = await loadPresigner();
    const { GetObjectCommand, PutObjectCommand } = this.#library;
    const command =
      method === 'GET' ? new GetObjectCommand(this.#address(key)) : new PutObjectCommand(this.#address(key));
    return await getSignedUrl(this.#client, command, { expiresIn: Math.ceil(validMs / 1_000) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
  }

  /** Whether an object consists of just these bytes. */
  async #is(key: string, bytes: Uint8Array): Promise<boolean> {
    if (bytes.length > comparedBytes) throw objectExists(this.name, key);
    return (await this.read(key, { length: comparedBytes + 1, atMost: true })).equals(bytes);
  }

  #keyOf(key: string): string {
    const { prefix } = this.#place;
    return prefix === '' ? key : `${prefix}/${key}`;
  }

  #address(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#place.bucket, Key: this.#keyOf(key) };
  }

  #failure(error: unknown, key: string): unknown {
    return s3Failure(error, { store: this.name, bucket: this.#place.bucket, key });
  }

  async #request<T>(
    key: string,
    what: string,
    signal: AbortSignal | undefined,
    task: (signal: AbortSignal, count: number) => Promise<T>,
  ): Promise<T> {
    return await attempts(`${what} in ${this.name}`, signal, async (inTime, count) => {
      try {
        return await task(inTime, count);
      } catch (error) {
        throw this.#failure(error, key);
      }
    });
  }
}

/** Where `s3://BUCKET/PREFIX?endpoint=URL&region=NAME` is. Throws `invalid_argument`. */
export function s3PlaceOf(url: URL): S3Place {
  const refuse = (why: string): never => {
    throw new CryoboxError('invalid_argument', `the address of the object store ${why}`, {
      hint: 'Write s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=NAME; keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
    });
  };
  if (url.username !== '' || url.password !== '') refuse('holds a user or password');
  const prefix = url.pathname.replace(/^\/+|\/+$/g, '');
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(url.host)) refuse(`names no bucket: ${url.host}`);
  if (prefix !== '') checkPrefix(prefix);
  for (const name of url.searchParams.keys()) {
    if (name !== 'endpoint' && name !== 'region') refuse(`has an unknown setting ${JSON.stringify(name)}`);
  }
  const endpoint = url.searchParams.get('endpoint') ?? undefined;
  if (endpoint !== undefined && !/^https?:\/\/[^@]+$/.test(endpoint))
    refuse('has an endpoint that is no URL');
  return { bucket: url.host, prefix, endpoint, region: url.searchParams.get('region') ?? undefined };
}
