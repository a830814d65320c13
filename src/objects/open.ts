import { isAbsolute } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CryoboxError } from '../errors.js';
import { DirectoryStore } from './directory.js';
import type { ObjectStore } from './object-store.js';
import { S3Store, s3PlaceOf } from './s3.js';

/**
 * The store at an address: an absolute path or `file:///PATH`, or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`. Asks
 * nobody yet. Throws `invalid_argument`, and `config_error` when the client of S3 is not installed.
 */
export async function openObjectStore(address: string): Promise<ObjectStore> {
  if (isAbsolute(address)) return new DirectoryStore(address);
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol === 'file:' && url.host === '') return new DirectoryStore(fileURLToPath(url));
  if (url?.protocol === 's3:') return await S3Store.open(s3PlaceOf(url));
  throw new CryoboxError(
    'invalid_argument',
    'an object store is an absolute path, file:///PATH or s3://BUCKET',
    {
      hint: 'Such as /mnt/backup/cryobox, or s3://bucket/prefix?endpoint=https://store.example:7070.',
    },
  );
}
