import { randomBytes } from 'node:crypto';
import type { CallOptions, CreateOptions, TemplateInfo, Templates } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, type Database, isUniqueViolation, type TemplateRow } from '../../store/index.js';
import type { BoxConfig } from '../boxes/config.js';
import { exclusively } from '../boxes/locked.js';
import { refuseTakenName } from '../boxes/names.js';
import { findRow } from '../boxes/rows.js';
import { checkName } from '../boxes/validate.js';
import type { EngineContext } from '../context.js';
import { tell } from '../events.js';
import { mountsOf, resolveMounts } from '../volumes/attachments.js';
import { refuseVolumes } from '../volumes/rules.js';
import { bringUpChild, type ChildFacts, insertChild } from './children.js';
import { compatibleGolden } from './guard.js';
import { memoryMap } from './layers.js';
import { requireMemory } from './rows.js';
import { takeMemory } from './snapshot.js';
import { openForResume } from './source.js';

/** The templates of one tenant. */
export class EngineTemplates implements Templates {
  readonly #ctx: EngineContext;
  readonly #tenant: string;

  constructor(ctx: EngineContext, tenant: string) {
    this.#ctx = ctx;
    this.#tenant = tenant;
  }

  async create(
    options: CallOptions & { readonly box: string; readonly name?: string; readonly overwrite?: boolean },
  ): Promise<TemplateInfo> {
    const ctx = this.#ctx;
    const { name = `template-${randomBytes(4).toString('hex')}`, overwrite = false } = options;
    checkName(name);
    const source = await findRow(ctx.db, this.#tenant, options.box);
    if (!source) throw new CryoboxError('not_found', `there is no box ${JSON.stringify(options.box)}`);
    const template = await exclusively(ctx, source.id, 'template.create', async (box) => {
      refuseVolumes(box, 'make a template of', 'none');
      if (!overwrite && (await this.#find(name))) throw nameTaken(name);
      return await this.#publish(box, name, overwrite);
    });
    tell(ctx, { tenant: this.#tenant, kind: 'template', id: template.id, change: 'created' });
    ctx.gc.soon();
    return await infoOf(ctx, template);
  }

  async list(_options: CallOptions & { readonly type?: 'memory' } = {}): Promise<TemplateInfo[]> {
    const rows = await this.#ctx.db
      .selectFrom('templates')
      .selectAll()
      .where('tenant', '=', this.#tenant)
      .orderBy('created_at')
      .orderBy('id')
      .execute();
    return await Promise.all(rows.map((row) => infoOf(this.#ctx, row)));
  }

  async get(name: string): Promise<TemplateInfo | null> {
    const row = await this.#find(name);
    return row ? await infoOf(this.#ctx, row) : null;
  }

  /** Boxes made from it keep what they need of it. */
  async remove(name: string): Promise<void> {
    const ctx = this.#ctx;
    const row = await requireTemplate(ctx.db, this.#tenant, name);
    await ctx.commits.run((tx) => tx.deleteFrom('templates').where('id', '=', row.id).execute());
    tell(ctx, { tenant: this.#tenant, kind: 'template', id: row.id, change: 'removed' });
    ctx.gc.soon();
  }

  async #publish(box: BoxRow, name: string, overwrite: boolean): Promise<TemplateRow> {
    const { tenant, image, cpus, memory_mib, disk_size_gb, config } = box;
    const facts = { tenant, name, image, cpus, memory_mib, disk_size_gb, config };
    const id = newId('tpl');
    const created_at = Date.now();
    try {
      const { memory } = await takeMemory(this.#ctx, box, async (tx, { id: memory_id }) => {
        if (overwrite) {
          await tx.deleteFrom('templates').where('tenant', '=', tenant).where('name', '=', name).execute();
        }
        await tx
          .insertInto('templates')
          .values({ id, created_at, memory_id, ...facts })
          .execute();
      });
      return { id, created_at, memory_id: memory.id, ...facts };
    } catch (error) {
      throw isUniqueViolation(error) ? nameTaken(name) : error;
    }
  }

  async #find(name: string): Promise<TemplateRow | undefined> {
    return await findTemplate(this.#ctx.db, this.#tenant, name);
  }
}

async function findTemplate(db: Database, tenant: string, name: string): Promise<TemplateRow | undefined> {
  return await db
    .selectFrom('templates')
    .selectAll()
    .where('tenant', '=', tenant)
    .where((q) => q.or([q('name', '=', name), q('id', '=', name)]))
    .executeTakeFirst();
}

async function requireTemplate(db: Database, tenant: string, name: string): Promise<TemplateRow> {
  const row = await findTemplate(db, tenant, name);
  if (row) return row;
  throw new CryoboxError('not_found', `there is no template ${JSON.stringify(name)}`, { details: { name } });
}

function nameTaken(name: string): CryoboxError {
  return new CryoboxError('already_exists', `a template with the name "${name}" exists already`, {
    hint: 'Choose another name, or set overwrite.',
    details: { name },
  });
}

async function infoOf(ctx: EngineContext, row: TemplateRow): Promise<TemplateInfo> {
  return {
    name: row.name,
    type: 'memory',
    cpus: row.cpus,
    memoryMiB: row.memory_mib,
    diskSizeGb: row.disk_size_gb,
    image: row.image,
    sizeBytes: await ownBytes(ctx, row.memory_id),
    createdAt: new Date(row.created_at),
  };
}

/** Bytes of a memory beyond the golden machine and the image that it stands on. */
async function ownBytes(ctx: EngineContext, memoryId: string): Promise<number> {
  const memory = await requireMemory(ctx.db, memoryId);
  const golden = await ctx.db
    .selectFrom('goldens')
    .select('ram_layer')
    .where('key', '=', memory.golden_key)
    .executeTakeFirst();
  const { layers } = await memoryMap(ctx, memory.layer_id);
  const own = [...layers, memory.state_layer, memory.guest_layer, memory.disk_layer];
  const sizes = await ctx.db
    .selectFrom('layers')
    .select('size_bytes')
    .where('id', 'in', own)
    .where('id', '!=', golden?.ram_layer ?? '')
    .where('kind', '!=', 'raw')
    .execute();
  return sizes.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
}

/** Makes a box that goes on from a template; when it does not come up, nothing of it is left. Returns its row. */
export async function createFromTemplate(
  ctx: EngineContext,
  tenant: string,
  id: string,
  options: CreateOptions & { readonly template: string },
): Promise<BoxRow> {
  const template = await requireTemplate(ctx.db, tenant, options.template);
  refuseLocked(options, template);
  await refuseTakenName(ctx.db, tenant, options.name);
  const memory = await requireMemory(ctx.db, template.memory_id);
  const golden = await compatibleGolden(ctx, memory);
  await using opened = await openForResume(ctx, memory, golden);
  const volumes = await resolveMounts(ctx, tenant, options.volumes);
  const chosen = { ...options, volumes: mountsOf(volumes) };
  const facts = factsOf(tenant, chosen, template);
  const row = await insertChild(ctx, memory, id, facts, volumes).catch(async (error) => {
    // It may have been removed meanwhile, and its memory with it.
    await requireTemplate(ctx.db, tenant, options.template);
    throw error;
  });
  await bringUpChild(ctx, opened, row, options.signal);
  return row;
}

/** What is in the memory cannot be chosen. */
function refuseLocked(options: CreateOptions, template: TemplateRow): void {
  const locked = [
    ['cpus', options.cpus, template.cpus],
    ['memoryMiB', options.memoryMiB, template.memory_mib],
    ['diskSizeGb', options.diskSizeGb, template.disk_size_gb],
  ] as const;
  for (const [name, asked, has] of locked) {
    if (asked === undefined || asked === has) continue;
    throw new CryoboxError('invalid_argument', `${name} is ${asked}, and the template has ${has}`, {
      hint: `Leave ${name} out: a template decides it.`,
      details: { template: template.name },
    });
  }
}

function factsOf(tenant: string, options: CreateOptions, template: TemplateRow): ChildFacts {
  return {
    tenant,
    name: options.name ?? null,
    image: template.image,
    template: template.name,
    disk_size_gb: template.disk_size_gb,
    config: JSON.stringify(configOf(options, JSON.parse(template.config) as BoxConfig)),
    auto_stop: options.autoStop ?? 0,
    auto_stop_action: options.autoStopAction ?? 'stop',
    auto_delete: options.autoDelete ?? 0,
    auto_resume: options.autoResume === false ? 0 : 1,
    detach: options.detach === true ? 1 : 0,
    labels: JSON.stringify(options.labels ?? {}),
    snapshot_id: null,
  };
}

/** New executions get what the options say; the processes that are there already have what they have. */
function configOf(options: CreateOptions, source: BoxConfig): BoxConfig {
  return {
    env: { ...source.env, ...options.env },
    workingDir: options.workingDir ?? source.workingDir,
    user: options.user ?? source.user,
    entrypoint: options.entrypoint ?? source.entrypoint,
    cmd: options.cmd ?? source.cmd,
    network: { outbound: options.network?.outbound ?? source.network.outbound },
    capabilities: options.capabilities ?? source.capabilities,
    volumes: options.volumes ?? [],
  };
}
