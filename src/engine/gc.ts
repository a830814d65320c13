import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { GcResult } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { Mutex } from '../base/mutex.js';
import { messageOf } from '../errors.js';
import { type Database, garbageLayers } from '../store/index.js';
import type { ImageContents } from './images/contents.js';
import type { LayerFiles } from './layer-files.js';

/** A file has no row until it is written; what may take longer than this says so (LayerFiles.whileWriting). */
const unknownFileAgeMs = 60 * 60 * 1000;
/** What a broken pull left is worth a second attempt for so long. */
const brokenPullAgeMs = 24 * 60 * 60 * 1000;
/** Several removals in a row are collected together. */
const delayMs = 1_000;

interface GarbageNeeds {
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly images: ImageContents;
  readonly directory: string;
  readonly logger: Logger;
}

/** Deletes layers that nothing needs, and blobs of no image. A layer goes from the database first: a crash between leaves only a file. */
export class GarbageCollector {
  readonly #db: Database;
  readonly #layers: LayerFiles;
  readonly #images: ImageContents;
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #mutex = new Mutex();
  #timer: NodeJS.Timeout | undefined;

  constructor(needs: GarbageNeeds) {
    this.#db = needs.db;
    this.#images = needs.images;
    this.#layers = needs.layers;
    this.#directory = needs.directory;
    this.#logger = needs.logger;
  }

  /** Collects in a while, in the background. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.run({ dryRun: false, minPullAgeMs: brokenPullAgeMs }).catch((error: unknown) => {
        this.#logger.warn('garbage collection failed', { reason: messageOf(error) });
      });
    }, delayMs).unref();
  }

  /** Collects now, or says what it would delete; parts of pulls only when they are older than `minPullAgeMs`. */
  async run(options: { readonly dryRun: boolean; readonly minPullAgeMs?: number }): Promise<GcResult> {
    return await this.#mutex.run(async () => {
      const { dryRun, minPullAgeMs = 0 } = options;
      // Blobs first: base disks of images that are gone become layers without a holder.
      const removed = [
        ...(await this.#images.collect({ dryRun, minAgeMs: minPullAgeMs })),
        ...(await this.#layersWithoutHolder(dryRun)),
        ...(await this.#filesWithoutRow(dryRun)),
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
      if (known.has(name) || this.#layers.isBeingWritten(name)) continue;
      if ((await this.#layers.ageMs(name)) < unknownFileAgeMs) continue;
      removed.push({ path: join('layers', name), bytes: await this.#layers.allocatedBytes(name) });
      if (!dryRun) await this.#layers.remove(name);
    }
    return removed;
  }
}
