import { createHash, randomBytes } from 'node:crypto';
import { isSecret } from '../../base/secret.js';
import type { Authenticator, Principal } from './auth.js';

/** Every key begins with this, so that scanners of leaked secrets find it. */
const keyPrefix = 'cbx_';
/** Of keys that E2B's clients take. */
const e2bPrefix = 'e2b_';
const idBytes = 8;
/** 256 bits: a hash of it needs no salt and no slow function. */
const secretBytes = 32;

/** A key just made. */
export interface NewApiKey {
  /** Public part: names the key in listings and finds its record. */
  readonly id: string;
  /** The whole key; shown once, never stored. */
  readonly key: string;
  /** What is stored. */
  readonly hash: string;
}

/** SHA-256 of a key, in hex. */
export function hashApiKey(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

/** How a key looks: ours, or one that E2B's clients take, which is letters of hex only. */
export type KeyForm = 'cryobox' | 'e2b';

/** A new key: `cbx_<id>_<secret>`, or `e2b_<id><secret>`. */
export function newApiKey(form: KeyForm = 'cryobox'): NewApiKey {
  const id = randomBytes(idBytes).toString('hex');
  const secret = randomBytes(secretBytes).toString('hex');
  const key = form === 'e2b' ? `${e2bPrefix}${id}${secret}` : `${keyPrefix}${id}_${secret}`;
  return { id, key, hash: hashApiKey(key) };
}

/** The id inside a key, or undefined when it does not look like a key of ours. */
export function apiKeyId(key: string): string | undefined {
  return /^(?:cbx_([0-9a-f]{16})_|e2b_([0-9a-f]{16}))[0-9a-f]{64}$/.exec(key)?.slice(1).find(Boolean);
}

/** Whether a key has that hash, in a time that does not depend on where they differ. */
export function matchesHash(key: string, hash: string): boolean {
  return isSecret(hash, hashApiKey(key));
}

/** What is known of a key. */
export interface ApiKeyRecord {
  readonly hash: string;
  readonly principal: Principal;
}

/** Where keys are kept. */
export interface KeyStore {
  /** The record of a key's id, or undefined when it was never made or is revoked. */
  find(id: string): Promise<ApiKeyRecord | undefined>;
}

/** An {@link Authenticator} over stored keys. A key that does not exist costs as much time as one with a wrong secret. */
export function keyAuthenticator(store: KeyStore): Authenticator {
  const nobody = hashApiKey('');
  return {
    async authenticate(token: string): Promise<Principal | null> {
      const id = apiKeyId(token);
      const record = id === undefined ? undefined : await store.find(id);
      const matches = matchesHash(token, record?.hash ?? nobody);
      return matches && record ? record.principal : null;
    },
  };
}
