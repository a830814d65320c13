import {
  type AdoptOptions,
  type Box,
  type BoxInfo,
  type BoxListOptions,
  type ByteInput,
  type ByteSource,
  boxLimits,
  type CallOptions,
  type CreateOptions,
  type EventsOptions,
  type GcResult,
  type Images,
  type ImportOptions,
  type ProgressOptions,
  type Runtime,
  type RuntimeEvent,
  type RuntimeMetrics,
  type Templates,
  type TreeNode,
  type VerifyResult,
  type Volumes,
} from '../api/index.js';
import { abortable, throwIfCancelled } from '../base/abort.js';
import { AttachedBoxes } from '../base/attached.js';
import { withBytes } from '../base/byte-source.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { type BoxRow, countBoxes, findBox, findBoxNamed } from '../store/index.js';
import { withBuildTar } from '../surface/build-context.js';
import { EngineBox } from './boxes/box.js';
import type { EngineContext } from './boxes/context.js';
import { createBox } from './boxes/create.js';
import { statesOf } from './boxes/tree.js';
import { verifyHome } from './boxes/verify.js';
import { buildFromSteps } from './builds/build.js';
import { eventsOf } from './core/events.js';
import { EngineImages } from './images/images.js';
import { checkLegal, underLock } from './machines/locked.js';
import { stopBox } from './machines/stop.js';
import { checkInteger } from './record/integers.js';
import { adoptBox } from './replicas/adopt.js';
import { EngineTemplates } from './states/templates.js';
import { importBox } from './transfer/import.js';
import { EngineVolumes } from './volumes/volumes.js';

/** One tenant's view of an engine. */
export class EngineRuntime implements Runtime {
  readonly images: Images;
  readonly templates: Templates;
  readonly volumes: Volumes;
  readonly #ctx: EngineContext;
  readonly #tenant: string;
  /** Boxes made here that end with this runtime. */
  readonly #attached = new AttachedBoxes(async (id) => (await findBox(this.#ctx.db, id)) !== undefined);
  readonly #onClose: (() => Promise<void>) | undefined;

  constructor(ctx: EngineContext, tenant: string, onClose?: () => Promise<void>) {
    this.#ctx = ctx;
    this.#onClose = onClose;
    this.#tenant = tenant;
    this.images = new EngineImages(ctx, tenant, (name, options) =>
      withBuildTar(options, (input) => buildFromSteps(ctx, tenant, name, { ...options, ...input })),
    );
    this.templates = new EngineTemplates(ctx, tenant);
    this.volumes = new EngineVolumes(ctx, tenant);
  }

  async create(options: CreateOptions): Promise<Box> {
    const row = await createBox(this.#ctx, this.#tenant, options);
    if (options.detach !== true) await this.#attached.add(row.id);
    return new EngineBox(this.#ctx, row, options.detach !== true);
  }

  async getOrCreate(
    name: string,
    options: Omit<CreateOptions, 'name'>,
  ): Promise<{ box: Box; created: boolean }> {
    const found = await this.get(name, options);
    if (found) return { box: found, created: false };
    try {
      return { box: await this.create({ ...options, name }), created: true };
    } catch (error) {
      // Somebody else made it meanwhile.
      const box = isCryoboxError(error, 'already_exists') ? await this.get(name) : null;
      if (!box) throw error;
      return { box, created: false };
    }
  }

  async get(idOrName: string, { signal }: CallOptions = {}): Promise<Box | null> {
    throwIfCancelled(signal, 'the look-up of a box');
    const row = await findBoxNamed(this.#ctx.db, this.#tenant, idOrName);
    return row ? new EngineBox(this.#ctx, row, false) : null;
  }

  async list(options: BoxListOptions = {}): Promise<BoxInfo[]> {
    const { status, limit, signal } = options;
    throwIfCancelled(signal, 'the listing of boxes');
    checkInteger('limit', limit, 1, boxLimits.listed);
    const after = options.after === undefined ? undefined : await this.#boxBefore(options.after);
    return await abortable(this.#ctx.infos.list(this.#tenant, { status, after, limit }), signal);
  }

  /** The box that a page begins after. */
  async #boxBefore(id: string): Promise<BoxRow> {
    const row = await findBox(this.#ctx.db, id);
    if (row?.tenant === this.#tenant) return row;
    throw new CryoboxError('invalid_argument', `there is no box ${JSON.stringify(id)} to list boxes after`, {
      hint: 'It may have been removed meanwhile: begin again without it.',
    });
  }

  async remove(idOrName: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const box = await this.get(idOrName, options);
    if (!box) throw new CryoboxError('not_found', `there is no box ${JSON.stringify(idOrName)}`);
    await box.remove(options);
  }

  async import(archive: string | ByteInput, options: ImportOptions = {}): Promise<Box> {
    const importFrom = (source: string | ByteSource) => importBox(this.#ctx, this.#tenant, source, options);
    const row =
      typeof archive === 'string'
        ? await importFrom(archive)
        : await withBytes(archive, 'archive', importFrom);
    return new EngineBox(this.#ctx, row, false);
  }

  async adopt(store: string, options: AdoptOptions): Promise<Box> {
    return new EngineBox(this.#ctx, await adoptBox(this.#ctx, this.#tenant, store, options), false);
  }

  async metrics({ signal }: CallOptions = {}): Promise<RuntimeMetrics> {
    throwIfCancelled(signal, 'the reading of counters');
    const { counters, db, hot, limits } = this.#ctx;
    return {
      ...(await counters.read(this.#tenant)),
      hotMachines: this.#tenant === '' ? hot.count : 0,
      runningBoxes: await countBoxes(db, this.#tenant, 'running'),
      uses: await limits.uses(this.#tenant),
    };
  }

  async tree({ signal }: CallOptions = {}): Promise<TreeNode[]> {
    throwIfCancelled(signal, 'the reading of all states');
    const [images, templates, boxes] = await Promise.all([
      this.images.list({ signal }),
      this.templates.list({ signal }),
      this.list({ signal }),
    ]);
    return await statesOf(this.#ctx, this.#tenant, { images, templates, boxes });
  }

  events(options: EventsOptions = {}): AsyncIterable<RuntimeEvent> {
    return eventsOf(this.#ctx, this.#tenant, options);
  }

  async gc(options: CallOptions & { readonly dryRun?: boolean } = {}): Promise<GcResult> {
    throwIfCancelled(options.signal, 'the collection of garbage');
    return await this.#ctx.gc.run({ dryRun: options.dryRun ?? false });
  }

  async verify(options: ProgressOptions = {}): Promise<VerifyResult> {
    throwIfCancelled(options.signal, 'the verification of a home');
    return await verifyHome(this.#ctx, options);
  }

  async close(): Promise<void> {
    const stopAll = (): Promise<unknown> =>
      Promise.all(this.#attached.take().map((id) => this.#stopAttached(id)));
    try {
      await this.#ctx.work.run('change', stopAll);
    } catch (error) {
      // Its boxes outlive an engine that is closed already.
      if (!isCryoboxError(error, 'engine_unavailable')) throw error;
    } finally {
      await this.#onClose?.();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #stopAttached(id: string): Promise<void> {
    const ctx = this.#ctx;
    try {
      await underLock(ctx, id, async () => {
        const row = await findBoxNamed(ctx.db, this.#tenant, id);
        if (!row || !ctx.live.get(id)) return;
        checkLegal('stop', row);
        await stopBox(ctx, row);
      });
    } catch (error) {
      ctx.logger.warn('cannot stop a box of a runtime that closes', { box: id, reason: messageOf(error) });
    }
  }
}
