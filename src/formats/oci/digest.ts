import { createHash, type Hash } from 'node:crypto';
import { CryoboxError } from '../../errors.js';

const pattern = /^sha256:[0-9a-f]{64}$/;

/** Whether a text is a digest we can verify: `sha256:` and 64 hexadecimal digits (OCI image spec, "Digests"). */
export function isDigest(text: string): boolean {
  return pattern.test(text);
}

/** The hexadecimal part of a digest. Throws `image_invalid` for anything but sha256. */
export function hexOf(digest: string): string {
  if (!isDigest(digest)) {
    throw new CryoboxError(
      'image_invalid',
      `expected a digest such as sha256:<64 hex digits>, got ${JSON.stringify(digest.slice(0, 100))}`,
    );
  }
  return digest.slice('sha256:'.length);
}

/** The digest of bytes in memory. */
export function digestOf(bytes: Uint8Array | string): string {
  return digestFrom(createHash('sha256').update(bytes));
}

/** The digest of what was fed to a hash; the hash is spent. */
export function digestFrom(hash: Hash): string {
  return `sha256:${hash.digest('hex')}`;
}
