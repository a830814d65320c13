import type { Kysely, Migration } from 'kysely';

/** How the main command of a box ended, as JSON of exit code and signal; null while it runs, and where there is none. */
export const mainExit: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('boxes').addColumn('main_exit', 'text').execute();
}
