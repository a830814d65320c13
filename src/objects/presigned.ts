import { createHash } from 'node:crypto';
import { Agent, request } from 'undici';
import { CryoboxError } from '../errors.js';
import { attempts, damagedObject, noObject, objectExists, PassingFailure } from './failures.js';
import { checkKey, checkRange } from './keys.js';
import {
  type ObjectAccess,
  type ObjectSource,
  objectLimits,
  type PutOptions,
  type ReadOptions,
} from './object-store.js';
import type { SignedMethod } from './s3.js';
import { bodyOf } from './s3-client.js';

/** Gives the URL for one thing with one object; asked again for each attempt, since URLs expire. */
export type UrlSource = (method: SignedMethod, key: string) => Promise<string>;

/** What is not answered by the S3 protocol is a fault of the way there. */
const passingStatuses = new Set([403, 408, 409, 429, 500, 502, 503, 504]);

/**
 * Objects by URLs that were signed for just them, so that no key of the store is needed. What is put is at most 16 MiB:
 * each part of a larger object has a URL of its own.
 */
export class PresignedStore implements ObjectAccess, AsyncDisposable {
  readonly name: string;
  readonly #urlOf: UrlSource;
  readonly #agent = new Agent({
    connect: { timeout: 10_000 },
    headersTimeout: objectLimits.attemptMs,
    bodyTimeout: objectLimits.attemptMs,
  });

  constructor(name: string, urlOf: UrlSource) {
    this.name = name;
    this.#urlOf = urlOf;
  }

  async put(key: string, source: ObjectSource, { ifAbsent, signal }: PutOptions = {}): Promise<void> {
    checkKey(key);
    if (source.sizeBytes > objectLimits.partBytes) {
      throw new CryoboxError(
        'payload_too_large',
        `object ${key} has ${source.sizeBytes} bytes; at most ${objectLimits.partBytes} are put by one URL`,
      );
    }
    const body = await source.read(0, source.sizeBytes);
    const headers = {
      'content-length': String(body.length),
      'content-md5': createHash('md5').update(body).digest('base64'),
      ...(ifAbsent ? { 'if-none-match': '*' } : {}),
    };
    await this.#attempts('PUT', key, signal, async (url, inTime) => {
      const answer = await this.#ask(url, { method: 'PUT', headers, body, signal: inTime });
      await bodyOf(answer.body, objectLimits.partBytes, inTime);
      this.#check(answer.statusCode, key);
    });
  }

  async read(key: string, { offset = 0, length, atMost = false, signal }: ReadOptions): Promise<Buffer> {
    checkKey(key);
    checkRange(offset, length);
    const headers = { range: `bytes=${offset}-${offset + length - 1}` };
    return await this.#attempts('GET', key, signal, async (url, inTime) => {
      const answer = await this.#ask(url, { method: 'GET', headers, signal: inTime });
      const bytes = await bodyOf(answer.body, objectLimits.readBytes, inTime);
      if (answer.statusCode === 416 && atMost) return Buffer.alloc(0);
      this.#check(answer.statusCode, key);
      if (bytes.length > length) throw new PassingFailure('more came than was asked for');
      const declared = answer.headers['content-length'];
      if (declared !== undefined && bytes.length !== Number(declared)) {
        throw new PassingFailure('the answer broke off');
      }
      if (offset > 0 && answer.statusCode !== 206) throw new PassingFailure('no range came');
      if (bytes.length < length && !atMost) {
        throw damagedObject(this.name, key, `ends ${length - bytes.length} bytes early`);
      }
      return bytes;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.close();
  }

  #check(status: number, key: string): void {
    if (status >= 200 && status < 300) return;
    if (status === 404) throw noObject(this.name, key);
    if (status === 412) throw objectExists(this.name, key);
    if (status === 416) throw damagedObject(this.name, key, 'ends early');
    if (passingStatuses.has(status)) throw new PassingFailure(`${this.name} answered ${status}`);
    throw new CryoboxError('storage_error', `${this.name} answered ${status} to a request for ${key}`);
  }

  /** A failure of the connection may pass. */
  async #ask(url: string, options: Parameters<typeof request>[1]): ReturnType<typeof request> {
    try {
      return await request(url, { ...options, dispatcher: this.#agent });
    } catch (error) {
      throw new PassingFailure(error instanceof Error ? error.message : String(error), { cause: error });
    }
  }

  async #attempts<T>(
    method: SignedMethod,
    key: string,
    signal: AbortSignal | undefined,
    task: (url: string, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const what = `${method === 'GET' ? 'reading' : 'putting'} ${key} in ${this.name}`;
    return await attempts(what, signal, async (inTime) => await task(await this.#urlOf(method, key), inTime));
  }
}
