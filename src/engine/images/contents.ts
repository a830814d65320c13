import { join } from 'node:path';
import type { GcResult } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { messageOf } from '../../errors.js';
import type { BlobStore } from '../../image/index.js';
import {
  type Database,
  deleteImageDisks,
  type GroupCommit,
  type ImageRow,
  manifestsWithDisk,
  neededByBuildSteps,
  neededByImages,
} from '../../store/index.js';

/** A file's time is that of the kernel's last tick, which may be before the clock's. */
const clockSlackMs = 50;

interface ContentsNeeds {
  readonly db: Database;
  readonly commits: GroupCommit;
  readonly blobs: BlobStore;
  /** The blobs' directory within the home. */
  readonly folder: string;
  readonly logger: Logger;
}

/** Options of {@link ImageContents.collect}. */
interface CollectOptions {
  readonly dryRun: boolean;
  /** Leaves what was written since, so that a broken pull can go on where it broke. */
  readonly minAgeMs: number;
}

/**
 * What images are made of: blobs and base disks, shared by all references that name them. Images arrive side by side;
 * what no reference names goes only while none arrives, since an arriving image may have found it here.
 */
export class ImageContents {
  readonly #needs: ContentsNeeds;
  #arriving = 0;
  readonly #unwanted = new Set<string>();
  #removing: Promise<unknown> | undefined;

  constructor(needs: ContentsNeeds) {
    this.#needs = needs;
  }

  /** Runs what brings an image or makes something of one; nothing of any image is removed meanwhile. */
  async arrive<T>(task: () => Promise<T>): Promise<T> {
    while (this.#removing !== undefined) await this.#removing;
    this.#arriving += 1;
    try {
      return await task();
    } finally {
      this.#arriving -= 1;
      await this.#removeUnwanted();
    }
  }

  /** Removes those of the blobs that no reference names, and their base disks: now, or when nothing arrives any more. */
  async discard(digests: Iterable<string>): Promise<void> {
    for (const digest of digests) this.#unwanted.add(digest);
    await this.#removeUnwanted();
  }

  /** Discards what came to the store since a moment. */
  async discardSince(sinceMs: number): Promise<void> {
    const all = await this.#needs.blobs.files();
    const fresh = all.filter(({ writtenMs }) => writtenMs >= sinceMs - clockSlackMs);
    await this.discard(fresh.flatMap(({ digest }) => digest ?? []));
  }

  /** Finds all that no reference names, parts of broken pulls among it, and removes it unless `dryRun`. Nothing while images arrive. */
  async collect({ dryRun, minAgeMs }: CollectOptions): Promise<GcResult['removed'][number][]> {
    const { db, blobs, folder } = this.#needs;
    const collected = await this.#alone(async () => {
      const named = await namedBlobs(db);
      const latestMs = Date.now() - minAgeMs;
      const files = (await blobs.files()).filter(
        ({ digest, writtenMs }) => writtenMs <= latestMs && !(digest && named.has(digest)),
      );
      if (!dryRun) {
        await this.#releaseDisks(named);
        for (const { name } of files) await blobs.removeFile(name);
      }
      return files.map(({ name, bytes }) => ({ path: join(folder, name), bytes }));
    });
    return collected ?? [];
  }

  async #removeUnwanted(): Promise<void> {
    while (this.#unwanted.size > 0 && this.#arriving === 0) {
      await this.#alone(async () => {
        const digests = [...this.#unwanted];
        this.#unwanted.clear();
        const { db, blobs, logger } = this.#needs;
        try {
          const named = await namedBlobs(db);
          await this.#releaseDisks(named);
          for (const digest of digests) if (!named.has(digest)) await blobs.remove(digest);
        } catch (error) {
          logger.warn('cannot remove blobs of images', { reason: messageOf(error) });
        }
      });
    }
  }

  /** Runs a task while nothing arrives and no other one runs; not at all when something arrives first. */
  async #alone<T>(task: () => Promise<T>): Promise<T | undefined> {
    while (this.#removing !== undefined) await this.#removing;
    if (this.#arriving > 0) return undefined;
    const turn = task();
    const ended = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#removing = ended;
    try {
      return await turn;
    } finally {
      this.#removing = undefined;
    }
  }

  /** Boxes hold the base disks they stand on themselves. */
  async #releaseDisks(named: ReadonlySet<string>): Promise<void> {
    const { db, commits } = this.#needs;
    const unnamed = (await manifestsWithDisk(db)).filter((digest) => !named.has(digest));
    if (unnamed.length === 0) return;
    await commits.run((tx) => deleteImageDisks(tx, unnamed));
  }
}

/** Blobs of an image: manifest, config and layers. */
export function blobsOf(row: Pick<ImageRow, 'manifest_digest' | 'config_digest' | 'layers'>): string[] {
  const layers = JSON.parse(row.layers) as { digest: string }[];
  return [row.manifest_digest, row.config_digest, ...layers.map(({ digest }) => digest)];
}

async function namedBlobs(db: Database): Promise<Set<string>> {
  return new Set([...(await neededByImages(db)), ...(await neededByBuildSteps(db))].flatMap(blobsOf));
}
