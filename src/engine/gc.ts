import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { GcResult } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { Mutex } from '../base/mutex.js';
import { messageOf } from '../errors.js';
import { type Database, garbageLayers } from '../store/index.js';
import type { LayerFiles } from './layer-files.js';

/** A file that is being written has no row yet; nothing takes this long to write one and commit it. */
const unknownFileAgeMs = 60 * 60 * 1000;
/** Several removals in a row are collected together. */
const delayMs = 1_000;

/** Deletes layers that nothing needs. A layer goes from the database first: a crash between leaves only a file. */
export class GarbageCollector {
  readonly #db: Database;
  readonly #layers: LayerFiles;
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #mutex = new Mutex();
  #timer: NodeJS.Timeout | undefined;

  constructor(needs: { db: Database; layers: LayerFiles; directory: string; logger: Logger }) {
    this.#db = needs.db;
    this.#layers = needs.layers;
    this.#directory = needs.directory;
    this.#logger = needs.logger;
  }

  /** Collects in a while, in the background. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.run({ dryRun: false }).catch((error: unknown) => {
        this.#logger.warn('garbage collection failed', { reason: messageOf(error) });
      });
    }, delayMs).unref();
  }

  /** Collects now, or says what it would delete. */
  async run(options: { readonly dryRun: boolean }): Promise<GcResult> {
    return await this.#mutex.run(async () => {
      const removed = [
        ...(await this.#layersWithoutHolder(options.dryRun)),
        ...(await this.#filesWithoutRow(options.dryRun)),
      ];
      return { removed, freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, 0) };
    });
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#mutex.run(async () => undefined);
  }

  async #layersWithoutHolder(dryRun: boolean): Promise<GcResult['removed'][number][]> {
    const removed: GcResult['removed'][number][] = [];
    const garbage = await garbageLayers(this.#db);
    if (!dryRun && garbage.length > 0) {
      // One statement: parents and children go together, whatever their order.
      const ids = garbage.map(({ id }) => id);
      await this.#db.deleteFrom('layers').where('id', 'in', ids).execute();
    }
    for (const { id } of garbage) {
      removed.push({ path: join('layers', id), bytes: await this.#layers.allocatedBytes(id) });
      if (!dryRun) await this.#layers.remove(id);
    }
    return removed;
  }

  async #filesWithoutRow(dryRun: boolean): Promise<GcResult['removed'][number][]> {
    const rows = await this.#db.selectFrom('layers').select('id').execute();
    const known = new Set(rows.map(({ id }) => id));
    const removed: GcResult['removed'][number][] = [];
    for (const name of await readdir(this.#directory)) {
      if (known.has(name) || (await this.#layers.ageMs(name)) < unknownFileAgeMs) continue;
      removed.push({ path: join('layers', name), bytes: await this.#layers.allocatedBytes(name) });
      if (!dryRun) await this.#layers.remove(name);
    }
    return removed;
  }
}
