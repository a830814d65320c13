import type { Database } from './database.js';
import type { BuildStepRow } from './schema.js';

/** Blobs that a result of a step needs. */
export type StepBlobs = Pick<BuildStepRow, 'manifest_digest' | 'config_digest' | 'layers'>;

/** The result of a tenant's step, noted as used now. */
export async function useBuildStep(
  tx: Database,
  tenant: string,
  key: string,
  now: number,
): Promise<BuildStepRow | undefined> {
  return await tx
    .updateTable('build_steps')
    .set({ used_at: now })
    .where('tenant', '=', tenant)
    .where('key', '=', key)
    .returningAll()
    .executeTakeFirst();
}

/** Keeps the result of a step, and of the tenant's no more than `limit`: those used last. Gives those that went. */
export async function putBuildStep(tx: Database, row: BuildStepRow, limit: number): Promise<StepBlobs[]> {
  const { manifest_digest, config_digest, layers, used_at } = row;
  const before = await tx
    .deleteFrom('build_steps')
    .where('tenant', '=', row.tenant)
    .where('key', '=', row.key)
    .returning(['manifest_digest', 'config_digest', 'layers'])
    .execute();
  await tx
    .insertInto('build_steps')
    .values({ tenant: row.tenant, key: row.key, manifest_digest, config_digest, layers, used_at })
    .execute();
  const oldest = await tx
    .selectFrom('build_steps')
    .select('key')
    .where('tenant', '=', row.tenant)
    .orderBy('used_at', 'desc')
    .offset(limit)
    .limit(1)
    .executeTakeFirst();
  if (!oldest) return before;
  const evicted = await tx
    .deleteFrom('build_steps')
    .where('tenant', '=', row.tenant)
    .where('key', '=', oldest.key)
    .returning(['manifest_digest', 'config_digest', 'layers'])
    .execute();
  return [...before, ...evicted];
}

/** Forgets the results of a tenant's steps. Gives what they were made of. */
export async function deleteBuildSteps(tx: Database, tenant: string): Promise<StepBlobs[]> {
  return await tx
    .deleteFrom('build_steps')
    .where('tenant', '=', tenant)
    .returning(['manifest_digest', 'config_digest', 'layers'])
    .execute();
}

/** What the results of steps of all tenants need. */
export async function neededByBuildSteps(db: Database): Promise<StepBlobs[]> {
  return await db.selectFrom('build_steps').select(['manifest_digest', 'config_digest', 'layers']).execute();
}
