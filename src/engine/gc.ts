import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { GcResult } from '../api/index.js';
import { ifExists } from '../base/files.js';
import type { Logger } from '../base/log.js';
import { Mutex } from '../base/mutex.js';
import { messageOf } from '../errors.js';
import { type Database, garbageLayers } from '../store/index.js';
import type { HomePaths } from './home.js';
import type { ImageContents } from './images/contents.js';
import type { LayerFiles } from './layer-files.js';
import { sweepMemories } from './memory/rows.js';
import type { Scratch } from './scratch.js';

/** A folder of a machine that has no row yet: nothing takes this long. */
const unknownAgeMs = 24 * 60 * 60 * 1000;
/** What a broken pull left is worth a second attempt for so long. */
const brokenPullAgeMs = 24 * 60 * 60 * 1000;
/** Several removals in a row are collected together. */
const delayMs = 1_000;

type Removed = GcResult['removed'][number];

interface GcNeeds {
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly paths: HomePaths;
  readonly scratch: Scratch;
  readonly images: ImageContents;
  readonly logger: Logger;
}

/**
 * Deletes what nothing needs: layers without a holder, and files that the database does not know. A layer goes from
 * the database first: a crash between leaves only a file.
 */
export class GarbageCollector {
  readonly #needs: GcNeeds;
  readonly #mutex = new Mutex();
  #timer: NodeJS.Timeout | undefined;

  constructor(needs: GcNeeds) {
    this.#needs = needs;
  }

  /** Collects in a while, in the background. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.run({ dryRun: false, minPullAgeMs: brokenPullAgeMs }).catch((error: unknown) => {
        this.#needs.logger.warn('garbage collection failed', { reason: messageOf(error) });
      });
    }, delayMs).unref();
  }

  /** Collects now, or says what it would delete; parts of pulls only when they are older than `minPullAgeMs`. */
  async run(options: { readonly dryRun: boolean; readonly minPullAgeMs?: number }): Promise<GcResult> {
    return await this.#mutex.run(async () => {
      const { dryRun, minPullAgeMs = 0 } = options;
      if (!dryRun) await sweepMemories(this.#needs.db);
      const removed = [
        // Blobs first: base disks of images that are gone become layers without a holder.
        ...(await this.#needs.images.collect({ dryRun, minAgeMs: minPullAgeMs })),
        ...(await this.#layersWithoutHolder(dryRun)),
        ...(await this.#filesWithoutRow(dryRun)),
        ...(await this.#foldersWithoutBox(dryRun)),
        ...(await this.#foldersWithoutMachine(dryRun)),
        ...(await this.#unusedScratch(dryRun)),
      ];
      return { removed, freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, 0) };
    });
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#mutex.run(async () => undefined);
  }

  async #layersWithoutHolder(dryRun: boolean): Promise<Removed[]> {
    const { db, layers } = this.#needs;
    // Found and deleted in one transaction: nobody can begin to hold one of them between.
    const garbage = await db.transaction().execute(async (tx) => {
      const found = await garbageLayers(tx);
      const ids = found.map(({ id }) => id);
      // One statement: parents and children go together, whatever their order.
      if (!dryRun && ids.length > 0) await tx.deleteFrom('layers').where('id', 'in', ids).execute();
      return ids;
    });
    const removed: Removed[] = [];
    for (const id of garbage) {
      removed.push({ path: join('layers', id), bytes: await layers.allocatedBytes(id) });
      if (!dryRun) await layers.remove(id);
    }
    return removed;
  }

  async #filesWithoutRow(dryRun: boolean): Promise<Removed[]> {
    const { db, layers, paths } = this.#needs;
    const rows = await db.selectFrom('layers').select('id').execute();
    const known = new Set(rows.map(({ id }) => id));
    // What became known after the query is still pending: only this forgets it.
    layers.settle(known);
    const removed: Removed[] = [];
    for (const id of await readdir(paths.layers)) {
      if (known.has(id) || layers.isPending(id)) continue;
      removed.push({ path: join('layers', id), bytes: await layers.allocatedBytes(id) });
      if (!dryRun) await layers.remove(id);
    }
    return removed;
  }

  async #foldersWithoutBox(dryRun: boolean): Promise<Removed[]> {
    const { db, paths } = this.#needs;
    // The folder is listed first: the row of a box is there before its folder.
    const names = await readdir(paths.boxes);
    const rows = await db.selectFrom('boxes').select('id').execute();
    const known = new Set(rows.map(({ id }) => id));
    const unknown = names.filter((name) => !known.has(name));
    return await this.#remove(paths.boxes, 'boxes', unknown, dryRun);
  }

  async #foldersWithoutMachine(dryRun: boolean): Promise<Removed[]> {
    const { db, paths } = this.#needs;
    const rows = await db.selectFrom('machines').select('id').execute();
    const known = new Set(rows.map(({ id }) => id));
    const unknown = (await readdir(paths.machines)).filter((name) => !known.has(name));
    // The row comes after the folder; what an engine that crashed left is removed when the next one starts.
    return await this.#remove(paths.machines, 'machines', await old(paths.machines, unknown), dryRun);
  }

  async #unusedScratch(dryRun: boolean): Promise<Removed[]> {
    const { paths, scratch } = this.#needs;
    const names = (await readdir(paths.scratch)).filter(
      (name) => name.startsWith('opn_') && !scratch.isInUse(name),
    );
    return await this.#remove(paths.scratch, 'scratch', names, dryRun);
  }

  async #remove(
    folder: string,
    shown: string,
    names: readonly string[],
    dryRun: boolean,
  ): Promise<Removed[]> {
    const removed: Removed[] = [];
    for (const name of names) {
      removed.push({ path: join(shown, name), bytes: await treeBytes(join(folder, name)) });
      if (!dryRun) await rm(join(folder, name), { recursive: true, force: true });
    }
    return removed;
  }
}

/** Those entries that nobody has touched for a day. */
async function old(folder: string, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    const facts = await ifExists(stat(join(folder, name)));
    if (facts && Date.now() - facts.mtimeMs > unknownAgeMs) found.push(name);
  }
  return found;
}

/** Bytes of the files in a tree that nothing else links to. */
async function treeBytes(path: string): Promise<number> {
  const facts = await ifExists(stat(path));
  if (!facts) return 0;
  if (!facts.isDirectory()) return facts.nlink > 1 ? 0 : facts.blocks * statBlockBytes;
  let bytes = 0;
  for (const name of (await ifExists(readdir(path))) ?? []) bytes += await treeBytes(join(path, name));
  return bytes;
}

/** Bytes of a block of `stat` (POSIX leaves it open, Linux has 512). */
const statBlockBytes = 512;
