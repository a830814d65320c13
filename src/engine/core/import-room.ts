import { CryoboxError } from '../../errors.js';

/**
 * Imports of one tenant under way at once: each holds a process that unpacks, a handful of descriptors and up to a whole
 * disk in the home, for as long as its upload takes.
 */
const maxPerTenant = 8;
/** Of all tenants together: a quarter of the 1,024 descriptors that a process may have by default. */
const maxTogether = 64;

/** Counts imports, so that no tenant takes all there is for them. */
export class ImportRoom {
  readonly #underWay = new Map<string, number>();
  #together = 0;

  /** A place for one import, until it is disposed of. Throws `resource_exhausted` at once when there is none. */
  take(tenant: string): Disposable {
    const mine = this.#underWay.get(tenant) ?? 0;
    if (mine >= maxPerTenant) throw full(`${mine} imports are`, maxPerTenant);
    if (this.#together >= maxTogether)
      throw full(`${this.#together} imports of all tenants are`, maxTogether);
    this.#underWay.set(tenant, mine + 1);
    this.#together += 1;
    return { [Symbol.dispose]: () => this.#leave(tenant) };
  }

  #leave(tenant: string): void {
    this.#together -= 1;
    const left = (this.#underWay.get(tenant) ?? 1) - 1;
    if (left > 0) this.#underWay.set(tenant, left);
    else this.#underWay.delete(tenant);
  }
}

function full(what: string, limit: number): CryoboxError {
  return new CryoboxError('resource_exhausted', `${what} under way already`, {
    hint: 'Wait until one of them has ended, then send the archive again.',
    details: { limit },
  });
}
