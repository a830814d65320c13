/** First path segments of everything that belongs to a tenant (v1 contract, section 1.1). */
const tenantRoots = new Set([
  'boxes',
  'images',
  'volumes',
  'snapshots',
  'metrics',
  'tree',
  'events',
  'gc',
  'verify',
]);

/** A URL without its tenant prefix. */
export interface SplitUrl {
  readonly url: string;
  /** Null when the URL had none. */
  readonly prefix: string | null;
}

/** Whether a text may be a tenant's prefix: path segments that are no resource of ours. */
export function isTenantPrefix(prefix: string): boolean {
  const segments = prefix.split('/');
  return (
    prefix.length <= 128 &&
    segments.every((segment) => /^[A-Za-z0-9._~-]+$/.test(segment) && !/^\.+$/.test(segment)) &&
    !segments.some((segment) => tenantRoots.has(segment))
  );
}

/**
 * Takes the tenant prefix out of `/v1/<prefix>/boxes/...`. A prefix is opaque and may hold `/`: it ends where the
 * first segment stands that names a resource. What is no such URL comes back as it is.
 */
export function splitPrefix(url: string): SplitUrl {
  if (!url.startsWith('/v1/')) return { url, prefix: null };
  const queryAt = url.indexOf('?');
  const path = queryAt < 0 ? url : url.slice(0, queryAt);
  const segments = path.slice('/v1/'.length).split('/');
  const rootAt = segments.findIndex((segment) => tenantRoots.has(segment));
  if (rootAt <= 0) return { url, prefix: null };
  const rest = segments.slice(rootAt).join('/');
  return {
    url: `/v1/${rest}${queryAt < 0 ? '' : url.slice(queryAt)}`,
    prefix: segments.slice(0, rootAt).join('/'),
  };
}
