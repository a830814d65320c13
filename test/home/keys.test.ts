import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiKeys } from '../../src/home/keys.js';
import { keyAuthenticator } from '../../src/server/index.js';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'cryobox-keys-'));
});
afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

describe('API keys', () => {
  it('open what they were made for, until they are revoked', async () => {
    await using keys = await ApiKeys.open(home);
    const made = await keys.create({ name: 'ci', tenant: 'acme', scopes: ['box:read', 'box:exec'] });
    // A server in another process sees the key at once.
    await using served = await ApiKeys.open(home);
    const authenticator = keyAuthenticator(served);
    expect(await authenticator.authenticate(made.key)).toEqual({
      id: made.id,
      tenant: 'acme',
      scopes: ['box:read', 'box:exec'],
      expiresAt: null,
      displayName: 'ci',
    });
    expect(await authenticator.authenticate(`${made.key.slice(0, -1)}x`)).toBeNull();
    await keys.remove(made.id);
    expect(await authenticator.authenticate(made.key)).toBeNull();
    await expect(keys.remove(made.id)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('are kept as hashes only', async () => {
    let key = '';
    {
      await using keys = await ApiKeys.open(home);
      key = (await keys.create()).key;
      expect(JSON.stringify(await keys.list())).not.toContain(key);
    }
    const secret = key.split('_').at(-1) ?? key;
    expect((await readFile(join(home, 'cryobox.db'))).includes(secret)).toBe(false);
  });

  it('have no right to the host unless it is asked for, and end when they should', async () => {
    await using keys = await ApiKeys.open(home);
    const before = Date.now();
    const { scopes, expiresAt } = await keys.create({ expiresInMs: 60_000 });
    expect(scopes).toContain('box:write');
    expect(scopes).not.toContain('admin');
    expect(expiresAt?.getTime()).toBeGreaterThanOrEqual(before + 60_000);
  });

  it('refuse scopes and tenants that cannot be', async () => {
    await using keys = await ApiKeys.open(home);
    await expect(keys.create({ scopes: ['box:everything'] })).rejects.toMatchObject({
      code: 'invalid_argument',
      message: 'There is no scope "box:everything"',
    });
    for (const tenant of ['boxes', 'a/../b', 'a b', 'x'.repeat(129)]) {
      await expect(keys.create({ tenant })).rejects.toMatchObject({ code: 'invalid_argument' });
    }
    expect(await keys.list()).toEqual([]);
  });
});
