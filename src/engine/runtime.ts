import type {
  Box,
  BoxInfo,
  BoxStatus,
  ByteSource,
  CallOptions,
  CreateOptions,
  GcResult,
  Images,
  ImportOptions,
  ProgressOptions,
  Runtime,
  RuntimeEvent,
  RuntimeMetrics,
  Templates,
  VerifyResult,
  Volumes,
} from '../api/index.js';
import { abortable, throwIfCancelled } from '../base/abort.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { EngineBox } from './boxes/box.js';
import { createBox } from './boxes/create.js';
import { checkLegal } from './boxes/locked.js';
import { findRow } from './boxes/rows.js';
import { stopBox } from './boxes/stop.js';
import type { EngineContext } from './context.js';
import { importBox } from './disks/import.js';
import { verifyHome } from './disks/verify.js';
import { eventsOf } from './events.js';
import { EngineImages } from './images/images.js';
import { EngineTemplates } from './memory/templates.js';
import { EngineVolumes } from './volumes/volumes.js';

/** One tenant's view of an engine. */
export class EngineRuntime implements Runtime {
  readonly images: Images;
  readonly templates: Templates;
  readonly volumes: Volumes;
  readonly #ctx: EngineContext;
  readonly #tenant: string;
  /** Boxes made here that end with this runtime. */
  readonly #attached = new Set<string>();

  readonly #onClose: (() => Promise<void>) | undefined;

  constructor(ctx: EngineContext, tenant: string, onClose?: () => Promise<void>) {
    this.#ctx = ctx;
    this.#onClose = onClose;
    this.#tenant = tenant;
    this.images = new EngineImages(ctx, tenant);
    this.templates = new EngineTemplates(ctx, tenant);
    this.volumes = new EngineVolumes(ctx, tenant);
  }

  async create(options: CreateOptions): Promise<Box> {
    const row = await createBox(this.#ctx, this.#tenant, options);
    if (options.detach !== true) this.#attached.add(row.id);
    return new EngineBox(this.#ctx, row, options.detach !== true);
  }

  async getOrCreate(
    name: string,
    options: Omit<CreateOptions, 'name'>,
  ): Promise<{ box: Box; created: boolean }> {
    const found = await this.get(name);
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
    const row = await findRow(this.#ctx.db, this.#tenant, idOrName);
    return row ? new EngineBox(this.#ctx, row, false) : null;
  }

  async list(options: CallOptions & { readonly status?: BoxStatus } = {}): Promise<BoxInfo[]> {
    throwIfCancelled(options.signal, 'the listing of boxes');
    return await abortable(this.#ctx.infos.list(this.#tenant, options.status), options.signal);
  }

  async remove(idOrName: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const box = await this.get(idOrName);
    if (!box) throw new CryoboxError('not_found', `there is no box ${JSON.stringify(idOrName)}`);
    await box.remove(options);
  }

  async import(archive: string | ByteSource, options: ImportOptions = {}): Promise<Box> {
    return new EngineBox(this.#ctx, await importBox(this.#ctx, this.#tenant, archive, options), false);
  }

  async metrics(): Promise<RuntimeMetrics> {
    const counters = await this.#ctx.counters.read(this.#tenant);
    return { ...counters, runningBoxes: (await this.list({ status: 'running' })).length };
  }

  events(options: CallOptions = {}): AsyncIterable<RuntimeEvent> {
    return eventsOf(this.#ctx, this.#tenant, options.signal);
  }

  async gc(options: CallOptions & { readonly dryRun?: boolean } = {}): Promise<GcResult> {
    return await this.#ctx.gc.run({ dryRun: options.dryRun ?? false });
  }

  async verify(options: ProgressOptions = {}): Promise<VerifyResult> {
    return await verifyHome(this.#ctx, options);
  }

  async close(): Promise<void> {
    const ids = [...this.#attached];
    this.#attached.clear();
    await Promise.all(ids.map((id) => this.#stopAttached(id)));
    await this.#onClose?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #stopAttached(id: string): Promise<void> {
    const ctx = this.#ctx;
    try {
      await ctx.boxLocks.run(id, async () => {
        const row = await findRow(ctx.db, this.#tenant, id);
        if (!row || !ctx.live.get(id)) return;
        checkLegal('stop', row);
        await stopBox(ctx, row);
      });
    } catch (error) {
      ctx.logger.warn('cannot stop a box of a runtime that closes', { box: id, reason: messageOf(error) });
    }
  }
}
