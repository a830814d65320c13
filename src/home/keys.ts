import { randomBytes } from 'node:crypto';
import { homePaths } from '../engine/core/home.js';
import { prepareHome } from '../engine/core/home-directory.js';
import { CryoboxError } from '../errors.js';
import {
  type ApiKeyRecord,
  scopes as allScopes,
  isTenantPrefix,
  type KeyForm,
  type KeyStore,
  newApiKey,
  type Scope,
} from '../server/index.js';
import {
  type ApiKeyRow,
  type Database,
  deleteApiKey,
  everHadApiKeys,
  findApiKey,
  hasApiKeys,
  insertApiKey,
  keepTokenSeed,
  listApiKeys,
  openDatabase,
} from '../store/index.js';

export { defaultHome } from '../engine/core/home.js';

/** 256 bits: nobody guesses what is made from it. */
const tokenSeedBytes = 32;

/** A key of the REST API; the key itself is nowhere kept. */
export interface ApiKeyInfo {
  readonly id: string;
  readonly name: string | null;
  /** Whose boxes it opens; also its path prefix. Empty: the owner's of the home. */
  readonly tenant: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
}

/** What a new key may do, and for how long. */
export interface CreateKeyOptions {
  readonly name?: string;
  /** @default '' */
  readonly tenant?: string;
  /** @default all but `admin` */
  readonly scopes?: readonly string[];
  /** @default never expires */
  readonly expiresInMs?: number;
  /** @default 'cryobox' */
  readonly form?: KeyForm;
}

/** The keys of a home. Several processes may use them at once: the engine that asks, and the command that makes them. */
export class ApiKeys implements KeyStore, AsyncDisposable {
  readonly #db: Database;

  private constructor(db: Database) {
    this.#db = db;
  }

  /** Opens the keys of a home. Throws `config_error`, `database_error`. */
  static async open(home: string): Promise<ApiKeys> {
    const paths = homePaths(home);
    await prepareHome(paths);
    return new ApiKeys(await openDatabase(paths.database));
  }

  /** Makes a key; `key` is shown this once. Throws `invalid_argument` for an unknown scope or a bad tenant. */
  async create(options: CreateKeyOptions = {}): Promise<ApiKeyInfo & { readonly key: string }> {
    const { tenant = '', name = null, expiresInMs } = options;
    if (tenant !== '' && !isTenantPrefix(tenant)) {
      throw new CryoboxError(
        'invalid_argument',
        `${JSON.stringify(tenant)} cannot be the prefix of a tenant`,
      );
    }
    const scopes = options.scopes ? options.scopes.map(toScope) : allScopes.filter((it) => it !== 'admin');
    const { id, key, hash } = newApiKey(options.form);
    const now = Date.now();
    const row: ApiKeyRow = {
      id,
      name,
      hash,
      tenant,
      scopes: scopes.join(' '),
      created_at: now,
      expires_at: expiresInMs === undefined ? null : now + expiresInMs,
    };
    await insertApiKey(this.#db, row);
    return { ...toInfo(row), key };
  }

  /** Whether the home ever had a key, revoked ones included. */
  async everMade(): Promise<boolean> {
    return await everHadApiKeys(this.#db);
  }

  /** Whether there is a key that is not revoked; it may have expired. */
  async exist(): Promise<boolean> {
    return await hasApiKeys(this.#db);
  }

  /** Oldest first, expired ones too. */
  async list(): Promise<ApiKeyInfo[]> {
    return (await listApiKeys(this.#db)).map(toInfo);
  }

  /** Revokes a key at once. Throws `not_found`. */
  async remove(id: string): Promise<void> {
    if (!(await deleteApiKey(this.#db, id)))
      throw new CryoboxError('not_found', `No API key ${JSON.stringify(id)}`);
  }

  /** For the server: who a key's id stands for. */
  async find(id: string): Promise<ApiKeyRecord | undefined> {
    const row = await findApiKey(this.#db, id);
    if (!row) return undefined;
    const { tenant, scopes, expiresAt, name } = toInfo(row);
    return { hash: row.hash, principal: { id, tenant, scopes, expiresAt, displayName: name ?? undefined } };
  }

  /** The secret of the home from which tokens of sandboxes are made; the same ever after. */
  async tokenSeed(): Promise<Buffer> {
    const value = await keepTokenSeed(this.#db, randomBytes(tokenSeedBytes).toString('hex'));
    return Buffer.from(value, 'hex');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#db.destroy();
  }
}

function toInfo(row: ApiKeyRow): ApiKeyInfo {
  return {
    id: row.id,
    name: row.name,
    tenant: row.tenant,
    scopes: allScopes.filter((scope) => row.scopes.split(' ').includes(scope)),
    createdAt: new Date(row.created_at),
    expiresAt: row.expires_at === null ? null : new Date(row.expires_at),
  };
}

function toScope(name: string): Scope {
  const scope = allScopes.find((candidate) => candidate === name);
  if (scope) return scope;
  throw new CryoboxError('invalid_argument', `There is no scope ${JSON.stringify(name)}`, {
    hint: `Scopes: ${allScopes.join(', ')}.`,
  });
}
