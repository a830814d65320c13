import { CryoboxError } from '../../errors.js';
import { type Database, findBoxNamed } from '../../store/index.js';

/** Throws `already_exists` when a tenant has a box of that name. The database has the last word. */
export async function refuseTakenName(db: Database, tenant: string, name: string | undefined): Promise<void> {
  if (name !== undefined && (await findBoxNamed(db, tenant, name))) throw nameTaken(name);
}

/** The error for a name that another box has. */
export function nameTaken(name: string): CryoboxError {
  return new CryoboxError('already_exists', `a box with the name "${name}" exists already`, {
    details: { name },
  });
}
