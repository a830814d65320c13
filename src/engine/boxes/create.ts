import { boxLimits, type CreateOptions } from '../../api/index.js';
import type { ImageConfig } from '../../formats/oci/index.js';
import { architectureOfPlatform } from '../../machine/index.js';
import { normalNetwork } from '../../network/index.js';
import { type BoxRow, isUniqueViolation, type LayerRow } from '../../store/index.js';
import type { TakenPorts } from '../core/published-ports.js';
import type { StoredImage } from '../images/store.js';
import type { Golden } from '../machines/golden.js';
import { insertBoxWithVolumes, newHeads, startBox } from '../machines/start.js';
import { removeBox } from '../machines/stop.js';
import { type BoxConfig, lifetimeOf, mainOf, ownEnvOf } from '../record/config.js';
import { nameTaken, refuseTakenName } from '../record/names.js';
import { type NewBox, newBoxRow } from '../record/new-row.js';
import { onlyOnce } from '../record/once.js';
import { announce } from '../record/rows.js';
import { newSecrets } from '../record/secrets.js';
import { checkCreateOptions } from '../record/validate.js';
import { createFromTemplate } from '../states/templates.js';
import { mountsOf, resolveMounts } from '../volumes/attachments.js';
import type { EngineContext } from './context.js';

/**
 * Makes a box from an image and starts it; when it does not start, nothing of it is left. `made`: the image itself, which
 * need not have a name. Returns its row.
 */
export async function createBox(
  ctx: EngineContext,
  tenant: string,
  options: CreateOptions,
  made?: StoredImage,
): Promise<BoxRow> {
  checkCreateOptions(options);
  return await onlyOnce(ctx, tenant, options.operationId, (id) => createNew(ctx, tenant, id, options, made));
}

async function createNew(
  ctx: EngineContext,
  tenant: string,
  id: string,
  options: CreateOptions,
  made: StoredImage | undefined,
): Promise<BoxRow> {
  const { template } = options;
  using ports = await ctx.ports.take(options.ports);
  if (template !== undefined) {
    return await createFromTemplate(ctx, tenant, id, { ...options, template }, ports);
  }
  await refuseTakenName(ctx.db, tenant, options.name);
  // Before an image is pulled; what is stored is admitted again where it is.
  await ctx.limits.admit(ctx.db, tenant, {
    boxes: 1,
    diskGb: options.diskSizeGb ?? boxLimits.diskSizeGb.default,
  });
  // From before it is stored: whoever sees it then waits until it has come up, and brings it up no other way.
  return await ctx.boxLocks.run(id, async () => {
    // The image may be removed meanwhile: what it is made of stays until the box holds it.
    const stored = await ctx.images.contents.arrive(() => storeBox(ctx, tenant, id, options, ports, made));
    ports.give(stored.id);
    announce(ctx, stored, 'created');
    ctx.activity.watch(stored);
    ctx.counters.add(tenant, 'boxesCreatedTotal');
    await bringUp(ctx, stored, options.signal);
    return stored;
  });
}

/** Everything of a box but its machine. */
async function storeBox(
  ctx: EngineContext,
  tenant: string,
  id: string,
  options: CreateOptions,
  ports: TakenPorts,
  made: StoredImage | undefined,
): Promise<BoxRow> {
  const { diskSizeGb = boxLimits.diskSizeGb.default } = options;
  const { allowedRegistries } = ctx;
  const image =
    made ?? (await ctx.images.require(tenant, options.image ?? '', { ...options, allowedRegistries }));
  const shape = {
    architecture: architectureOfPlatform(image.platform.architecture).name,
    cpus: options.cpus ?? boxLimits.cpus.default,
    memoryMiB: options.memoryMiB ?? boxLimits.memoryMiB.default,
  };
  const [golden, disk] = await Promise.all([
    ctx.goldens.get(shape),
    ctx.images.disks.get(image.row, diskSizeGb, options),
  ]);
  const volumes = await resolveMounts(ctx, tenant, options.volumes);
  const heads = await newHeads(ctx, golden, disk, diskSizeGb);
  const stored = newRow({
    id,
    tenant,
    options: { ...options, volumes: mountsOf(volumes) },
    diskSizeGb,
    imageReference: image.row.reference,
    config: image.config,
    golden,
    heads,
  });
  try {
    const secrets = await ctx.vault.seal(id, newSecrets(options.secrets).values);
    await insertBoxWithVolumes(ctx, stored, heads, volumes, ports, secrets);
  } catch (error) {
    await ctx.layers.remove(heads.guest.id);
    await ctx.layers.remove(heads.disk.id);
    throw isUniqueViolation(error) ? nameTaken(options.name ?? '') : error;
  }
  return stored;
}

/** Called under the box's lock. */
async function bringUp(ctx: EngineContext, row: BoxRow, signal: AbortSignal | undefined): Promise<void> {
  using _ = ctx.activity.use(row.id);
  ctx.activities.set(row.id, 'starting');
  try {
    await startBox(ctx, row, signal);
  } catch (error) {
    await removeBox(ctx, row);
    throw error;
  } finally {
    ctx.activities.delete(row.id);
  }
}

interface RowFacts {
  readonly id: string;
  readonly tenant: string;
  readonly options: CreateOptions;
  readonly diskSizeGb: number;
  readonly imageReference: string;
  readonly config: ImageConfig;
  readonly golden: Golden;
  readonly heads: { readonly guest: LayerRow; readonly disk: LayerRow };
}

function newRow(facts: RowFacts): BoxRow {
  const { id, tenant, options, diskSizeGb, imageReference, config, golden, heads } = facts;
  const row: NewBox = {
    tenant,
    name: options.name ?? null,
    status: 'configured',
    image: imageReference,
    template: null,
    cpus: golden.shape.cpus,
    memory_mib: golden.shape.memoryMiB,
    disk_size_gb: diskSizeGb,
    config: JSON.stringify(boxConfig(options, config, golden)),
    auto_stop: options.autoStop ?? 0,
    auto_stop_action: options.autoStopAction ?? 'stop',
    auto_delete: options.autoDelete ?? 0,
    auto_resume: options.autoResume === false ? 0 : 1,
    detach: options.detach === true ? 1 : 0,
    labels: JSON.stringify(options.labels ?? {}),
    guest_head: heads.guest.id,
    disk_head: heads.disk.id,
    golden_key: golden.key,
    snapshot_id: null,
    memory_id: null,
  };
  return newBoxRow(row, id);
}

function boxConfig(options: CreateOptions, image: ImageConfig, { shape }: Golden): BoxConfig {
  return {
    architecture: shape.architecture,
    env: { ...image.env, ...options.env },
    ownEnv: ownEnvOf(options.env),
    hostname: options.hostname,
    imageAsked: options.image,
    workingDir: options.workingDir ?? (image.workingDir || '/'),
    user: options.user ?? image.user,
    entrypoint: options.entrypoint ?? image.entrypoint,
    cmd: options.cmd ?? image.cmd,
    main: mainOf(options, image),
    network: normalNetwork(options.network),
    diskLimits: options.diskLimits ?? {},
    secrets: newSecrets(options.secrets).configs,
    capabilities: options.capabilities ?? {},
    volumes: options.volumes ?? [],
    lifetime: lifetimeOf(options),
  };
}
