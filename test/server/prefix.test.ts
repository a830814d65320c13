import { describe, expect, it } from 'vitest';
import { isTenantPrefix, splitPrefix } from '../../src/server/http/prefix.js';

describe('splitPrefix', () => {
  it.each([
    ['/v1/boxes', '/v1/boxes', null],
    ['/v1/acme/boxes/b1?force=true', '/v1/boxes/b1?force=true', 'acme'],
    ['/v1/a/b/c/boxes', '/v1/boxes', 'a/b/c'],
    ['/v1/boxes/boxes/files?path=/v1/x/boxes', '/v1/boxes/boxes/files?path=/v1/x/boxes', null],
    ['/v1/acme/boxes/images', '/v1/boxes/images', 'acme'],
    ['/v1/config', '/v1/config', null],
    ['/v1/me', '/v1/me', null],
    ['/healthz', '/healthz', null],
    ['/v1/acme/nothing', '/v1/acme/nothing', null],
    ['/v1/?x=/boxes', '/v1/?x=/boxes', null],
    ['/v1//boxes', '/v1/boxes', ''],
  ])('%s is %s of %s', (from, url, prefix) => {
    expect(splitPrefix(from)).toEqual({ url, prefix });
  });

  it('takes as prefixes only what no URL can mistake', () => {
    expect(['acme', 'a/b', 'team-1.x~y'].every(isTenantPrefix)).toBe(true);
    expect(
      ['', '/', 'a//b', 'boxes', 'a/images', '..', 'a/../b', 'ü', 'a b', 'a'.repeat(129)].some(
        isTenantPrefix,
      ),
    ).toBe(false);
  });
});
