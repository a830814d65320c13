import { randomBytes } from 'node:crypto';
import type {
  CallOptions,
  CreateOptions,
  TemplateInfo,
  TemplateOptions,
  Templates,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { normalNetwork } from '../../network/index.js';
import {
  type BoxRow,
  bytesOf,
  type Database,
  deleteTemplate,
  findBoxNamed,
  findGolden,
  findOwned,
  insertTemplate,
  isUniqueViolation,
  listOwned,
  type TemplateRow,
} from '../../store/index.js';
import { tell } from '../core/events.js';
import type { TakenPorts } from '../core/published-ports.js';
import { requireMemory } from '../layers/memories.js';
import { memoryMap } from '../layers/memory-layers.js';
import type { MachinesContext } from '../machines/context.js';
import { compatibleGolden } from '../machines/guard.js';
import { exclusively } from '../machines/locked.js';
import { openForResume } from '../machines/source.js';
import {
  type BoxConfig,
  lifetimeOf,
  mainOf,
  ownEnvOf,
  parseConfig,
  withoutBoxSecrets,
} from '../record/config.js';
import { refuseTakenName } from '../record/names.js';
import { newSecrets } from '../record/secrets.js';
import { checkLabels, checkName } from '../record/validate.js';
import { mountsOf, resolveMounts } from '../volumes/attachments.js';
import { refuseVolumes } from '../volumes/rules.js';
import { bringUpChild, type ChildFacts, insertChild } from './children.js';
import { takeMemory } from './memory-snapshot.js';

/** The templates of one tenant. */
export class EngineTemplates implements Templates {
  readonly #ctx: MachinesContext;
  readonly #tenant: string;

  constructor(ctx: MachinesContext, tenant: string) {
    this.#ctx = ctx;
    this.#tenant = tenant;
  }

  async create(options: TemplateOptions): Promise<TemplateInfo> {
    const ctx = this.#ctx;
    const { name = `template-${randomBytes(4).toString('hex')}` } = options;
    const { overwrite = false, labels = {} } = options;
    checkName(name);
    checkLabels(labels);
    const source = await findBoxNamed(ctx.db, this.#tenant, options.box);
    if (!source) throw new CryoboxError('not_found', `there is no box ${JSON.stringify(options.box)}`);
    const publish = async (box: BoxRow): Promise<TemplateRow> => {
      refuseVolumes(box, 'make a template of', 'none');
      const former = await this.#find(name);
      if (former && !overwrite) throw nameTaken(name);
      if (!former) await ctx.limits.admit(ctx.db, this.#tenant, { snapshots: 1 });
      return await this.#publish(box, { name, overwrite, labels, signal: options.signal });
    };
    const template = await exclusively(ctx, source.id, 'template.create', publish, options.signal);
    tell(ctx, { tenant: this.#tenant, kind: 'template', id: template.id, change: 'created' });
    ctx.gc.soon();
    return await infoOf(ctx, template);
  }

  async list({ signal }: CallOptions & { readonly type?: 'memory' } = {}): Promise<TemplateInfo[]> {
    throwIfCancelled(signal, 'the listing of templates');
    const rows = await listOwned(this.#ctx.db, 'templates', this.#tenant);
    return await Promise.all(rows.map((row) => infoOf(this.#ctx, row)));
  }

  async get(name: string, { signal }: CallOptions = {}): Promise<TemplateInfo | null> {
    throwIfCancelled(signal, 'the look-up of a template');
    const row = await this.#find(name);
    return row ? await infoOf(this.#ctx, row) : null;
  }

  /** Boxes made from it keep what they need of it. */
  async remove(name: string, { signal }: CallOptions = {}): Promise<void> {
    throwIfCancelled(signal, 'the removal of a template');
    const ctx = this.#ctx;
    const row = await requireTemplate(ctx.db, this.#tenant, name);
    await ctx.commits.run((tx) => deleteTemplate(tx, row.id));
    tell(ctx, { tenant: this.#tenant, kind: 'template', id: row.id, change: 'removed' });
    ctx.gc.soon();
  }

  async #publish(
    box: BoxRow,
    { name, overwrite, labels, signal }: Required<Omit<TemplateOptions, 'box' | 'signal'>> & CallOptions,
  ): Promise<TemplateRow> {
    const { tenant, image, cpus, memory_mib, disk_size_gb } = box;
    const config = JSON.stringify(withoutBoxSecrets(parseConfig(box.config)));
    const facts = {
      tenant,
      name,
      image,
      cpus,
      memory_mib,
      disk_size_gb,
      config,
      labels: JSON.stringify(labels),
    };
    const id = newId('tpl');
    const created_at = Date.now();
    try {
      const { memory } = await takeMemory(this.#ctx, box, async (tx, { id: memory_id }) => {
        throwIfCancelled(signal, 'the making of a template');
        // One that takes the place of another is no more than there was.
        if (!(await findOwned(tx, 'templates', tenant, name)))
          await this.#ctx.limits.admit(tx, tenant, { snapshots: 1 });
        await insertTemplate(tx, { id, created_at, memory_id, ...facts }, { overwrite });
      });
      return { id, created_at, memory_id: memory.id, ...facts };
    } catch (error) {
      throw isUniqueViolation(error) ? nameTaken(name) : error;
    }
  }

  async #find(name: string): Promise<TemplateRow | undefined> {
    return await findOwned(this.#ctx.db, 'templates', this.#tenant, name);
  }
}

async function requireTemplate(db: Database, tenant: string, name: string): Promise<TemplateRow> {
  const row = await findOwned(db, 'templates', tenant, name);
  if (row) return row;
  throw new CryoboxError('not_found', `there is no template ${JSON.stringify(name)}`, { details: { name } });
}

function nameTaken(name: string): CryoboxError {
  return new CryoboxError('already_exists', `a template with the name "${name}" exists already`, {
    hint: 'Choose another name, or set overwrite.',
    details: { name },
  });
}

async function infoOf(ctx: MachinesContext, row: TemplateRow): Promise<TemplateInfo> {
  return {
    name: row.name,
    type: 'memory',
    cpus: row.cpus,
    memoryMiB: row.memory_mib,
    diskSizeGb: row.disk_size_gb,
    image: row.image,
    sizeBytes: await ownBytes(ctx, row.memory_id),
    createdAt: new Date(row.created_at),
    labels: JSON.parse(row.labels) as Record<string, string>,
  };
}

/** Bytes of a memory beyond the golden machine and the image that it stands on. */
async function ownBytes(ctx: MachinesContext, memoryId: string): Promise<number> {
  const memory = await requireMemory(ctx.db, memoryId);
  const golden = await findGolden(ctx.db, memory.golden_key);
  const { layers } = await memoryMap(ctx, memory.layer_id);
  const own = [...layers, memory.state_layer, memory.guest_layer, memory.disk_layer];
  return await bytesOf(
    ctx.db,
    own.filter((id) => id !== golden?.ram_layer),
  );
}

/** Makes a box that goes on from a template; when it does not come up, nothing of it is left. Returns its row. */
export async function createFromTemplate(
  ctx: MachinesContext,
  tenant: string,
  id: string,
  options: CreateOptions & { readonly template: string },
  ports: TakenPorts,
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
  const secrets = await ctx.vault.seal(id, newSecrets(options.secrets).values);
  return await ctx.boxLocks.run(id, async () => {
    const row = await insertChild(ctx, memory, id, facts, volumes, { ports, secrets }).catch(
      async (error) => {
        // It may have been removed meanwhile, and its memory with it.
        await requireTemplate(ctx.db, tenant, options.template);
        throw error;
      },
    );
    await bringUpChild(ctx, opened, row, options.signal);
    return row;
  });
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
    config: JSON.stringify(configOf(options, parseConfig(template.config))),
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
    architecture: source.architecture,
    env: { ...source.env, ...options.env },
    // Of a source whose names are not known, all stay unknown.
    ...(source.ownEnv ? { ownEnv: ownEnvOf(options.env, source.ownEnv) } : {}),
    hostname: options.hostname,
    ...(source.imageAsked === undefined ? {} : { imageAsked: source.imageAsked }),
    workingDir: options.workingDir ?? source.workingDir,
    user: options.user ?? source.user,
    entrypoint: options.entrypoint ?? source.entrypoint,
    cmd: options.cmd ?? source.cmd,
    // The process that is there goes on as it is; what is given begins with the next start.
    main: mainOf(options, source) ?? source.main,
    network: normalNetwork({ ...source.network, ...options.network }),
    diskLimits: options.diskLimits ?? source.diskLimits,
    secrets: newSecrets(options.secrets, source.env).configs,
    capabilities: options.capabilities ?? source.capabilities,
    volumes: options.volumes ?? [],
    lifetime: lifetimeOf(options),
  };
}
