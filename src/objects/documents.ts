import { createHash } from 'node:crypto';
import type { CallOptions } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { damagedObject } from './failures.js';
import { type ObjectAccess, type ObjectStore, objectLimits, type PutOptions } from './object-store.js';
import { bytesSource } from './sources.js';

/** Length of the first line, which has the digest of the others. */
const headBytes = 'sha256:'.length + 64 + 1;

/** JSON that an object consists of, and what it is known by. */
export interface ObjectDocument {
  readonly value: unknown;
  /** SHA-256 of the JSON, in hex. */
  readonly digest: string;
}

/** Puts JSON under its own digest, so that a changed byte is noticed. Returns the digest. Throws `payload_too_large`. */
export async function putDocument(
  store: ObjectAccess,
  key: string,
  value: unknown,
  options: PutOptions = {},
): Promise<string> {
  const json = Buffer.from(JSON.stringify(value));
  const digest = digestOf(json);
  const bytes = Buffer.concat([Buffer.from(`sha256:${digest}\n`), json]);
  if (bytes.length > objectLimits.readBytes) {
    throw new CryoboxError('payload_too_large', `document ${key} has ${bytes.length} bytes`);
  }
  await store.put(key, bytesSource(bytes), options);
  return digest;
}

/** Reads JSON that {@link putDocument} put. Throws `integrity` for other bytes, `not_found`, and as reading does. */
export async function readDocument(
  store: ObjectAccess,
  key: string,
  { signal }: CallOptions = {},
): Promise<ObjectDocument> {
  const bytes = await store.read(key, { length: objectLimits.readBytes, atMost: true, signal });
  const json = bytes.subarray(headBytes);
  const digest = digestOf(json);
  if (bytes.subarray(0, headBytes).toString('latin1') !== `sha256:${digest}\n`) {
    throw damagedObject(store.name, key, 'is not the document that was put');
  }
  return { value: JSON.parse(json.toString('utf8')) as unknown, digest };
}

/** Every object whose key begins with `prefix`, page by page. */
export async function* allObjects(store: ObjectStore, prefix: string, options: CallOptions = {}) {
  let after: string | undefined;
  do {
    const page = await store.list(prefix, { ...options, ...(after === undefined ? {} : { after }) });
    yield* page.objects;
    after = page.next;
  } while (after !== undefined);
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
