import { describe, expect, it } from 'vitest';
import { authenticate, authorize, bearerToken, type Principal } from '../../src/server/http/auth.js';
import {
  apiKeyId,
  type KeyStore,
  keyAuthenticator,
  matchesHash,
  newApiKey,
} from '../../src/server/http/keys.js';

const principal: Principal = { id: 'k', tenant: 'acme', scopes: ['box:read'], expiresAt: null };

function storeOf(id: string, hash: string, of: Principal = principal): KeyStore {
  return { find: async (asked) => (asked === id ? { hash, principal: of } : undefined) };
}

describe('API keys', () => {
  it('are found by their id and matched by their hash', async () => {
    const { id, key, hash } = newApiKey();
    expect(key).toMatch(/^cbx_[0-9a-f]{16}_[0-9a-f]{64}$/);
    expect(apiKeyId(key)).toBe(id);
    expect(key).not.toContain(hash);
    expect(matchesHash(key, hash)).toBe(true);
    expect(await keyAuthenticator(storeOf(id, hash)).authenticate(key)).toEqual(principal);
  });

  it('that clients of E2B take have letters of hex only, and are ours all the same', async () => {
    const { id, key, hash } = newApiKey('e2b');
    expect(key).toMatch(/^e2b_[0-9a-f]+$/);
    expect(apiKeyId(key)).toBe(id);
    const authenticator = keyAuthenticator(storeOf(id, hash));
    expect(await authenticator.authenticate(key)).toEqual(principal);
    expect(await authenticator.authenticate(`${key.slice(0, -1)}x`)).toBeNull();
    expect(await authenticator.authenticate(`e2b_${id}${'0'.repeat(64)}`)).toBeNull();
  });

  it('let nobody in with a wrong secret, an unknown id or a malformed text', async () => {
    const { id, hash } = newApiKey();
    const authenticator = keyAuthenticator(storeOf(id, hash));
    for (const token of [`cbx_${id}_${'0'.repeat(64)}`, newApiKey().key, '', 'sk_1', `cbx_${id}`]) {
      expect(await authenticator.authenticate(token)).toBeNull();
    }
  });
});

describe('authenticate', () => {
  it('refuses no key, another scheme, and a key that has expired', async () => {
    const { id, key, hash } = newApiKey();
    const expired = { ...principal, expiresAt: new Date(Date.now() - 1) };
    const authenticator = keyAuthenticator(storeOf(id, hash, expired));
    for (const header of [undefined, '', key, `Basic ${key}`, `Bearer ${key}`, `Bearer ${'x'.repeat(600)}`]) {
      await expect(authenticate(authenticator, header)).rejects.toMatchObject({
        code: 'unauthenticated',
        message: 'invalid or missing API key',
      });
    }
    expect(bearerToken(`bearer   ${key}`)).toBe(key);
  });
});

describe('authorize', () => {
  it('names the missing scope, and does not say which prefixes exist', () => {
    expect(() => authorize(principal, 'box:read', null)).not.toThrow();
    expect(() => authorize(principal, 'box:read', 'acme')).not.toThrow();
    expect(() => authorize(principal, 'box:write', null)).toThrow('This key lacks the scope box:write');
    expect(() => authorize(principal, 'box:read', 'other')).toThrow('This key does not belong to the prefix');
    expect(() => authorize({ ...principal, tenant: '' }, 'box:read', 'acme')).toThrow();
  });
});
