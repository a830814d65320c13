import type { Database } from './database.js';
import type { MachineChanges, MachineRow } from './schema.js';

/** Stores a machine that has been started. */
export async function insertMachine(db: Database, row: MachineRow): Promise<void> {
  await db.insertInto('machines').values(row).execute();
}

/** Stores changes of a machine. */
export async function changeMachine(db: Database, id: string, changes: MachineChanges): Promise<void> {
  await db.updateTable('machines').set(changes).where('id', '=', id).execute();
}

/** Forgets a machine that has ended. */
export async function deleteMachine(db: Database, id: string): Promise<void> {
  await db.deleteFrom('machines').where('id', '=', id).execute();
}

/** All machines. */
export async function allMachines(db: Database): Promise<MachineRow[]> {
  return await db.selectFrom('machines').selectAll().execute();
}

/** The machines that were started for a box: one, or none, unless an engine ended at a bad moment. */
export async function machinesOfBox(db: Database, boxId: string): Promise<MachineRow[]> {
  return await db.selectFrom('machines').selectAll().where('box_id', '=', boxId).execute();
}
