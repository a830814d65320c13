import { CryoboxError } from '../../errors.js';
import { type Database, findSnapshot, type SnapshotRow } from '../../store/index.js';

/** The stored snapshot of a box, or `not_found`. */
export async function requireSnapshot(db: Database, boxId: string, name: string): Promise<SnapshotRow> {
  const row = await findSnapshot(db, boxId, name);
  if (row) return row;
  throw noSnapshot(name);
}

/** What is told of a snapshot that a box does not have, or has no more. */
export function noSnapshot(name: string): CryoboxError {
  return new CryoboxError('not_found', `the box has no snapshot ${JSON.stringify(name)}`, {
    details: { name },
  });
}
