import { CryoboxError } from '../../errors.js';
import { type Database, findMemory, type MemoryRow } from '../../store/index.js';

/** The stored memory; a box that points at none is broken. */
export async function requireMemory(db: Database, id: string): Promise<MemoryRow> {
  const row = await findMemory(db, id);
  if (row) return row;
  throw new CryoboxError('integrity', `memory ${id} is not in the database`, { details: { memory: id } });
}
