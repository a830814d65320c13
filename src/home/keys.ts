import { homePaths, prepareHome } from '../engine/home.js';
import { CryoboxError } from '../errors.js';
import {
  type ApiKeyRecord,
  scopes as allScopes,
  isTenantPrefix,
  type KeyStore,
  newApiKey,
  type Scope,
} from '../server/index.js';
import { type ApiKeyRow, type Database, openDatabase } from '../store/index.js';

export { defaultHome } from '../engine/home.js';

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
    const { id, key, hash } = newApiKey();
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
    await this.#db.insertInto('api_keys').values(row).execute();
    return { ...toInfo(row), key };
  }

  /** Oldest first, expired ones too. */
  async list(): Promise<ApiKeyInfo[]> {
    const rows = await this.#db.selectFrom('api_keys').selectAll().orderBy('created_at').execute();
    return rows.map(toInfo);
  }

  /** Revokes a key at once. Throws `not_found`. */
  async remove(id: string): Promise<void> {
    const { numDeletedRows } = await this.#db.deleteFrom('api_keys').where('id', '=', id).executeTakeFirst();
    if (numDeletedRows === 0n) throw new CryoboxError('not_found', `No API key ${JSON.stringify(id)}`);
  }

  /** For the server: who a key's id stands for. */
  async find(id: string): Promise<ApiKeyRecord | undefined> {
    const row = await this.#db.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst();
    if (!row) return undefined;
    const { tenant, scopes, expiresAt, name } = toInfo(row);
    return { hash: row.hash, principal: { id, tenant, scopes, expiresAt, displayName: name ?? undefined } };
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
