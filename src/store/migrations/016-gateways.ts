import type { Kysely, Migration } from 'kysely';

/** The process at the other end of a machine's network card, and what whoever speaks to it has to know. */
export const gateways: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('machines').addColumn('gateway_pid', 'integer').execute();
  await db.schema.alterTable('machines').addColumn('gateway_ticks', 'bigint').execute();
  await db.schema.alterTable('machines').addColumn('gateway_token', 'text').execute();
}
