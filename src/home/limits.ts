import { type LimitedResource, limitedResources, type ResourceUse } from '../api/index.js';
import { homePaths } from '../engine/core/home.js';
import { prepareHome } from '../engine/core/home-directory.js';
import { hostSettings, Limits } from '../engine/core/limits.js';
import { CryoboxError } from '../errors.js';
import { isTenantPrefix } from '../server/index.js';
import { allLimits, type Database, type LimitScope, openDatabase, setLimits } from '../store/index.js';

export { defaultHome } from '../engine/core/home.js';

/** A limit by name: of what is counted, or one of the host's, which the home has only. */
export type LimitName = LimitedResource | keyof typeof hostSettings;

/** Whose limits: the whole home's, those that each tenant with a name has, or those of one tenant. */
export type LimitOwner = 'home' | 'each-tenant' | { readonly tenant: string };

/** A limit that was set. */
export interface SetLimit {
  readonly owner: LimitOwner;
  readonly name: string;
  readonly value: number;
}

/** A factor of memory beyond this is a slip of the pen. */
const maxOvercommit = 1000;

/**
 * The limits of a home. Several processes may use them at once: a limit that is set holds for what an engine admits from
 * then on, and takes away nothing that is there.
 */
export class HomeLimits implements AsyncDisposable {
  readonly #db: Database;
  readonly #directory: string;

  private constructor(db: Database, directory: string) {
    this.#db = db;
    this.#directory = directory;
  }

  /** Opens the limits of a home. Throws `config_error`, `database_error`. */
  static async open(home: string): Promise<HomeLimits> {
    const paths = homePaths(home);
    await prepareHome(paths);
    return new HomeLimits(await openDatabase(paths.database), paths.root);
  }

  /** Those that were set, in no particular order. */
  async list(): Promise<SetLimit[]> {
    return (await allLimits(this.#db)).map(({ scope, name, value }) => ({
      owner: ownerOf(scope),
      name,
      value,
    }));
  }

  /** What the home uses and may use. Only its engine knows of commands: they are not told. */
  async uses(): Promise<ResourceUse[]> {
    const uses = await new Limits({ db: this.#db, directory: this.#directory }).uses('');
    return uses.filter(({ scope, resource }) => scope !== 'tenant' && resource !== 'executions');
  }

  /** Sets limits, all or none; null takes one back. Throws `invalid_argument`. */
  async set(owner: LimitOwner, limits: Readonly<Partial<Record<LimitName, number | null>>>): Promise<void> {
    const scope = scopeOf(owner);
    const all = Object.entries(limits) as [LimitName, number | null][];
    for (const [name, value] of all) check(scope, name, value);
    await setLimits(this.#db, scope, all);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#db.destroy();
  }
}

function scopeOf(owner: LimitOwner): LimitScope {
  if (owner === 'home') return 'home';
  if (owner === 'each-tenant') return 'tenants';
  if (owner.tenant === '' || isTenantPrefix(owner.tenant)) return `tenant:${owner.tenant}`;
  throw new CryoboxError(
    'invalid_argument',
    `${JSON.stringify(owner.tenant)} cannot be the prefix of a tenant`,
  );
}

function ownerOf(scope: LimitScope): LimitOwner {
  if (scope === 'home') return 'home';
  if (scope === 'tenants') return 'each-tenant';
  return { tenant: scope.slice('tenant:'.length) };
}

function check(scope: LimitScope, name: LimitName, value: number | null): void {
  const ofHost = Object.hasOwn(hostSettings, name);
  if (!ofHost && !limitedResources.some((known) => known === name)) {
    throw new CryoboxError('invalid_argument', `there is no limit ${JSON.stringify(name)}`, {
      hint: `Limits: ${[...limitedResources, ...Object.keys(hostSettings)].join(', ')}.`,
    });
  }
  if (ofHost && scope !== 'home') {
    throw new CryoboxError('invalid_argument', `${name} is a limit of the whole home, and of no tenant`);
  }
  if (value === null) return;
  const fits =
    name === 'memoryOvercommit'
      ? value >= 0 && value <= maxOvercommit
      : Number.isSafeInteger(value) && value >= 0;
  if (fits) return;
  const expected = name === 'memoryOvercommit' ? `0 to ${maxOvercommit}` : 'a whole number of at least 0';
  throw new CryoboxError('invalid_argument', `${name} must be ${expected}, got ${value}`);
}
