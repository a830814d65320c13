import { lstat, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { GcResult } from '../../api/index.js';
import { ifExists } from '../../base/files.js';
import { isId } from '../../base/ids.js';
import type { Logger } from '../../base/log.js';
import { Mutex } from '../../base/mutex.js';
import { ownEntries } from '../../base/own-entries.js';
import { messageOf } from '../../errors.js';
import {
  type Database,
  deleteUnusedMemories,
  type Holder,
  idsOf,
  release,
  takeGarbage,
} from '../../store/index.js';
import type { HomePaths } from '../core/home.js';
import type { LayerFiles } from './layer-files.js';
import { isScratchName, type Scratch } from './scratch.js';

/** What a broken pull left is worth a second attempt for so long. */
const brokenPullAgeMs = 24 * 60 * 60 * 1000;
/** Golden machines of shapes that nobody has are worth the seconds that another one takes for so long. */
const unusedGoldenAgeMs = 24 * 60 * 60 * 1000;
/** Several removals in a row are collected together. */
const delayMs = 1_000;

/** Form of the names below `guest` (machines/assets.ts). */
const assetName = /^(kernel|initramfs|guard|gateway)-[0-9a-f]{16}(\.\d+\.tmp)?$/;

type Removed = GcResult['removed'][number];

/** What images leave behind: blobs and parts of pulls. */
export interface ImageGarbage {
  /** Removes, or only names, what no reference needs and is older than `minAgeMs`. */
  collect(options: { readonly dryRun: boolean; readonly minAgeMs: number }): Promise<Removed[]>;
}

/** Golden machines that nobody uses. */
export interface GoldenGarbage {
  /** Lets go of those that are older than `minAgeMs`, unless `dryRun`; returns the layers of them. */
  collect(options: { readonly dryRun: boolean; readonly minAgeMs: number }): Promise<string[]>;
}

/** What machines left that nobody has. */
export interface LeftMachines {
  /** Ends them, unless `dryRun`; returns the names of the directories that go. */
  collect(options: { readonly dryRun: boolean }): Promise<string[]>;
}

interface GcNeeds {
  readonly machines: LeftMachines;
  readonly goldens: GoldenGarbage;
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly paths: HomePaths;
  readonly scratch: Scratch;
  readonly images: ImageGarbage;
  /** Paths of the kernels, the initramfs and the guard that machines of this engine get. */
  readonly assets: () => readonly string[];
  readonly logger: Logger;
}

/**
 * Deletes what nothing needs: layers without a holder, and files that the database does not know. A layer goes from
 * the database first: a crash between leaves only a file.
 */
export class GarbageCollector {
  readonly #needs: GcNeeds;
  readonly #mutex = new Mutex();
  /** Operations that have ended, while the layers that they held are not recorded as let go of. */
  readonly #ended = new Set<Holder>();
  #timer: NodeJS.Timeout | undefined;

  constructor(needs: GcNeeds) {
    this.#needs = needs;
  }

  /** Collects in a while, in the background. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.run({ dryRun: false, minPullAgeMs: brokenPullAgeMs, minGoldenAgeMs: unusedGoldenAgeMs }).catch(
        (error: unknown) => {
          this.#needs.logger.warn('garbage collection failed', { reason: messageOf(error) });
        },
      );
    }, delayMs).unref();
  }

  /**
   * Lets go of what an operation held that has ended, and collects in a while. What cannot be recorded now is recorded
   * before the next collection: it changes nothing for who called the operation. Never fails. No later operation may hold
   * by the same name.
   */
  async letGo(holder: Holder): Promise<void> {
    this.#ended.add(holder);
    try {
      await this.#releaseEnded();
    } catch (error) {
      this.#needs.logger.warn('cannot let go of layers', { reason: messageOf(error) });
    }
    this.soon();
  }

  async #releaseEnded(): Promise<void> {
    for (const holder of this.#ended) {
      await release(this.#needs.db, holder);
      this.#ended.delete(holder);
    }
  }

  /**
   * Collects now, or says what it would delete; parts of pulls and golden machines that nobody uses only when they are
   * older than that.
   */
  async run(options: {
    readonly dryRun: boolean;
    readonly minPullAgeMs?: number;
    readonly minGoldenAgeMs?: number;
  }): Promise<GcResult> {
    return await this.#mutex.run(async () => {
      const { dryRun, minPullAgeMs = 0, minGoldenAgeMs = 0 } = options;
      if (!dryRun) {
        await this.#releaseEnded();
        await deleteUnusedMemories(this.#needs.db);
      }
      const removed = [
        // Blobs first: base disks of images that are gone become layers without a holder.
        ...(await this.#needs.images.collect({ dryRun, minAgeMs: minPullAgeMs })),
        ...(await this.#unusedGoldens(dryRun, minGoldenAgeMs)),
        ...(await this.#layersWithoutHolder(dryRun)),
        ...(await this.#filesWithoutRow(dryRun)),
        ...(await this.#foldersWithoutBox(dryRun)),
        ...(await this.#leftMachines(dryRun)),
        ...(await this.#unusedScratch(dryRun)),
        ...(await this.#formerAssets(dryRun)),
      ];
      return { removed, freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, 0) };
    });
  }

  /** Runs a task while nothing is collected, which waits for it: for who makes use of files that nobody holds yet. */
  async apart<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await this.#mutex.run(task, signal);
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#mutex.run(async () => undefined);
  }

  /** What a dry run says of them; else their layers go as those without a holder. */
  async #unusedGoldens(dryRun: boolean, minAgeMs: number): Promise<Removed[]> {
    const { goldens, layers } = this.#needs;
    const ids = await goldens.collect({ dryRun, minAgeMs });
    const removed: Removed[] = [];
    for (const id of dryRun ? ids : []) {
      removed.push({ path: join('layers', id), bytes: await layers.allocatedBytes(id) });
    }
    return removed;
  }

  async #layersWithoutHolder(dryRun: boolean): Promise<Removed[]> {
    const { db, layers } = this.#needs;
    const removed: Removed[] = [];
    for (const id of await takeGarbage(db, dryRun)) {
      removed.push({ path: join('layers', id), bytes: await layers.allocatedBytes(id) });
      if (!dryRun) await layers.remove(id);
    }
    return removed;
  }

  async #filesWithoutRow(dryRun: boolean): Promise<Removed[]> {
    const { db, layers, paths } = this.#needs;
    const known = await idsOf(db, 'layers');
    // What became known after the query is still pending: only this forgets it.
    layers.settle(known);
    const removed: Removed[] = [];
    for (const id of await ownEntries(paths.layers, (name) => isId('lay', name))) {
      if (known.has(id) || layers.isPending(id)) continue;
      removed.push({ path: join('layers', id), bytes: await layers.allocatedBytes(id) });
      if (!dryRun) await layers.remove(id);
    }
    return removed;
  }

  async #foldersWithoutBox(dryRun: boolean): Promise<Removed[]> {
    const { db, paths } = this.#needs;
    // The folder is listed first: the row of a box is there before its folder.
    const names = await ownEntries(paths.boxes, (name) => isId('box', name));
    const known = await idsOf(db, 'boxes');
    const unknown = names.filter((name) => !known.has(name));
    return await this.#remove(paths.boxes, 'boxes', unknown, dryRun);
  }

  async #leftMachines(dryRun: boolean): Promise<Removed[]> {
    const { machines, paths } = this.#needs;
    return await this.#remove(paths.machines, 'machines', await machines.collect({ dryRun }), dryRun);
  }

  async #unusedScratch(dryRun: boolean): Promise<Removed[]> {
    const { paths, scratch } = this.#needs;
    const found = await ownEntries(paths.scratch, isScratchName);
    const names = found.filter((name) => !scratch.isInUse(name));
    return await this.#remove(paths.scratch, 'scratch', names, dryRun);
  }

  /** What machines of earlier releases booted from: those that run have links of their own. */
  async #formerAssets(dryRun: boolean): Promise<Removed[]> {
    const { paths, assets } = this.#needs;
    const used = new Set(assets().map((path) => basename(path)));
    const names = await ownEntries(paths.guest, (name) => assetName.test(name) && !used.has(name));
    return await this.#remove(paths.guest, 'guest', names, dryRun);
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

/** Bytes of the files in a tree that nothing else links to. */
async function treeBytes(path: string): Promise<number> {
  const facts = await ifExists(lstat(path));
  if (!facts) return 0;
  if (!facts.isDirectory()) return facts.nlink > 1 ? 0 : facts.blocks * statBlockBytes;
  let bytes = 0;
  for (const name of (await ifExists(readdir(path))) ?? []) bytes += await treeBytes(join(path, name));
  return bytes;
}

/** Bytes of a block of `stat` (POSIX leaves it open, Linux has 512). */
const statBlockBytes = 512;
