import { CryoboxError } from '../errors.js';
import { digestOf } from '../formats/oci/digest.js';
import { mediaTypes } from '../formats/oci/documents.js';
import type { ImageLimits } from '../formats/oci/limits.js';
import { failureOfConnection } from './failure.js';
import type { RegistryClient } from './registry.js';
import { readLimited } from './responses.js';

const accept = [
  mediaTypes.index,
  mediaTypes.dockerIndex,
  mediaTypes.manifest,
  mediaTypes.dockerManifest,
].join(', ');

/**
 * Gets an index or manifest by tag or digest. Throws `image_invalid` when its bytes have another digest than the one
 * asked for or the one the registry names, `image_refused` when it is too long.
 */
export async function fetchManifest(
  client: RegistryClient,
  repository: string,
  tagOrDigest: string,
  limits: ImageLimits,
  signal?: AbortSignal,
): Promise<{ readonly digest: string; readonly bytes: Buffer }> {
  const what = `the manifest ${repository}:${tagOrDigest}`;
  const { headers, body } = await client.get({
    repository,
    path: `manifests/${tagOrDigest}`,
    what,
    headers: { accept },
    signal,
  });
  const bytes = await readLimited(body, limits.maxDocumentBytes).catch((error: unknown) => {
    if (signal?.aborted) throw error;
    throw failureOfConnection(error, what, client.registry);
  });
  if (!bytes) {
    throw new CryoboxError('image_refused', `${what} has more than ${limits.maxDocumentBytes} bytes`, {
      details: { registry: client.registry },
    });
  }
  const digest = digestOf(bytes);
  const named = headers['docker-content-digest'];
  const expected = tagOrDigest.startsWith('sha256:')
    ? tagOrDigest
    : typeof named === 'string'
      ? named
      : digest;
  if (expected.startsWith('sha256:') && expected !== digest) {
    throw new CryoboxError(
      'image_invalid',
      `${client.registry} sent ${what} with the digest ${digest} in place of ${expected}`,
    );
  }
  return { digest, bytes };
}
