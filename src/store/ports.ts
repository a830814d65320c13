import type { Database } from './database.js';
import type { PortRow } from './schema.js';

/** Stores published ports of boxes. Throws a unique violation for a port of the host that a box has already. */
export async function insertPorts(tx: Database, rows: readonly PortRow[]): Promise<void> {
  if (rows.length > 0) await tx.insertInto('ports').values(rows).execute();
}

/** Forgets a published port. */
export async function deletePort(
  tx: Database,
  { host_ip, host_port }: Pick<PortRow, 'host_ip' | 'host_port'>,
): Promise<void> {
  await tx.deleteFrom('ports').where('host_ip', '=', host_ip).where('host_port', '=', host_port).execute();
}

/** Every published port of the home. */
export async function allPorts(db: Database): Promise<PortRow[]> {
  return await db.selectFrom('ports').selectAll().execute();
}
