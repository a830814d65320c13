import { open } from 'node:fs/promises';
import type { Durability } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { faultPoint } from '../../base/faults.js';
import { newId } from '../../base/ids.js';
import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import { BlobStore } from '../../image/index.js';
import { fileSource, type ObjectStore, openObjectStore } from '../../objects/index.js';
import {
  allImages,
  allTemplates,
  type BoxRow,
  boxesAtRest,
  disksOfImage,
  type ImageRow,
  idsOf,
  keepHomeId,
  noteReplica,
  release,
  releaseKind,
  replicasIn,
  type TemplateRow,
} from '../../store/index.js';
import { blobsOf } from '../images/contents.js';
import { boxManifest, canBeReplicated, captureAtRest, holdForReplica, memoriesOf } from './capture.js';
import type { ReplicasContext } from './context.js';
import { collectGarbage } from './garbage.js';
import { type ImageManifest, keyOf, storeFormat } from './layout.js';
import { leftAlready, takeOut, tellDepartures } from './release.js';
import { Shelf } from './shelf.js';
import { type Claim, claimStore, holdsClaim, overtaken } from './writer.js';

/** How a home is replicated. */
export interface ReplicateOptions {
  /** Of the store: an absolute path, `file:///PATH` or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`. */
  readonly address: string;
  /** How long what nothing in the store needs stays there, in milliseconds. @default one day */
  readonly graceMs?: number;
  /** Between two looks for what is not needed, in milliseconds. @default one hour */
  readonly sweepMs?: number;
}

const defaults = { graceMs: 24 * 60 * 60_000, sweepMs: 60 * 60_000 };
/** A change is seen after so long: a question that an index answers. */
const lookMs = 2_000;
/** After a failure the next attempt comes later each time, up to this. */
const longestPauseMs = 60_000;

/** What is known of a store once it was looked at. */
interface Opened {
  readonly shelf: Shelf;
  readonly claim: Claim;
  /** Records that the store has, by the box's id. */
  readonly versions: Map<string, number>;
  /** What images and templates were when they were put, by key. */
  readonly put: Map<string, string>;
}

/** What `durability` is told from. */
export type ReplicaStamp = Pick<BoxRow, 'id' | 'status' | 'failure' | 'record_version'>;

/** Copies what boxes, images and templates come back from to an object store, in the background. */
export class Replicator {
  readonly #context: () => ReplicasContext;
  readonly #options: Required<ReplicateOptions>;
  readonly #mutex = new Mutex();
  readonly #closing = new AbortController();
  #store: ObjectStore | undefined;
  #opened: Opened | undefined;
  /** Set once another engine writes to the store. */
  #overtaken: ObjectStore | undefined;
  #timer: NodeJS.Timeout | undefined;
  #sweptAt = 0;
  #failures = 0;

  /** `context` is asked for when there is work: it holds this replicator, too. */
  constructor(context: () => ReplicasContext, options: ReplicateOptions) {
    this.#context = context;
    this.#options = { ...defaults, ...options };
  }

  /**
   * Begins to look for changes. Throws `invalid_argument`, and `config_error` for a store that cannot be used, or in which
   * another home is; one that does not answer is asked again later.
   */
  async start(): Promise<void> {
    this.#store = await openObjectStore(this.#options.address);
    await releaseKind(this.#context().db, 'replica');
    this.#later(0);
  }

  /** How safe a box is: never more than is so, whatever is under way. */
  durabilityOf(stamp: ReplicaStamp, hasVolumes: boolean): Durability {
    if (!canBeReplicated(stamp, hasVolumes)) return 'local';
    return this.#opened?.versions.get(stamp.id) === stamp.record_version ? 'replicated' : 'replicating';
  }

  /** Copies what has changed, now. Throws as a store does. */
  async run(): Promise<void> {
    const { signal } = this.#closing;
    await this.#mutex.run(async () => {
      const ctx = this.#context();
      const opened = await this.#write(ctx);
      await tellDepartures(ctx, opened, signal);
      await this.#removeGone(ctx, opened);
      const failed = await this.#copyChanged(ctx, opened);
      if (Date.now() - this.#sweptAt >= this.#options.sweepMs) {
        await collectGarbage(opened.shelf, this.#options.graceMs, { signal });
        this.#sweptAt = Date.now();
      }
      if (failed !== undefined) throw failed;
    });
  }

  /**
   * Takes a box out of this home and offers it to others in the store, which has all of it then. Throws `invalid_state`,
   * `stopped`, `not_found`, `cancelled` and as a store does. One that fails while the store is told has left all the
   * same: it is told of later.
   */
  async release(boxId: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#mutex.run(async () => {
      const ctx = this.#context();
      const opened = await this.#write(ctx);
      // The most of it while the box can still be used.
      await this.#copyBox(ctx, opened, boxId, signal);
      await takeOut(ctx, opened, boxId, signal);
      opened.versions.delete(boxId);
      await tellDepartures(ctx, opened, undefined).catch((error: unknown) => {
        throw leftAlready(boxId, error);
      });
    }, signal);
  }

  /** Gives up what is under way. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#mutex.run(async () => undefined);
    await this.#store?.[Symbol.asyncDispose]();
  }

  #later(ms: number): void {
    if (this.#closing.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.run().then(
        () => {
          this.#failures = 0;
          this.#later(lookMs);
        },
        (error: unknown) => {
          if (this.#closing.signal.aborted) return;
          this.#failures += 1;
          const pauseMs = Math.min(longestPauseMs, lookMs * 2 ** (this.#failures - 1));
          this.#context().logger.warn('cannot replicate', { reason: messageOf(error), nextInMs: pauseMs });
          this.#later(pauseMs);
        },
      );
    }, ms).unref();
  }

  /** What is known of the store, seen to be still ours to write to. */
  async #write(ctx: ReplicasContext): Promise<Opened> {
    if (this.#overtaken) throw overtaken(this.#overtaken);
    const opened = await this.#open(ctx);
    const { store } = opened.shelf;
    if (await holdsClaim(store, opened.claim)) return opened;
    this.#overtaken = store;
    // Nobody here knows any more what is there.
    this.#opened = undefined;
    throw overtaken(store);
  }

  async #open(ctx: ReplicasContext): Promise<Opened> {
    if (this.#opened) return this.#opened;
    const { signal } = this.#closing;
    const store = this.#store ?? (await openObjectStore(this.#options.address));
    this.#store = store;
    const home = await keepHomeId(ctx.db, newId('opn'));
    const claim = await claimStore(store, home, { replace: false });
    const shelf = await Shelf.open(store, { signal });
    const versions = await replicasIn(ctx.db, claim.store);
    for (const [id, version] of versions) {
      const isThere = await shelf.hasBox(id, version, { signal }).catch(() => false);
      throwIfCancelled(signal, 'the look at a store');
      if (!isThere) versions.delete(id);
    }
    this.#opened = { shelf, claim, versions, put: new Map() };
    return this.#opened;
  }

  /** Returns the last failure: what is wrong with one box must not keep the others from being safe. */
  async #copyChanged(ctx: ReplicasContext, opened: Opened): Promise<unknown> {
    let failed: unknown;
    const attempt = async (task: () => Promise<void>): Promise<void> => {
      throwIfCancelled(this.#closing.signal, 'replication');
      await task().catch((error: unknown) => {
        failed = error;
      });
    };
    for (const row of await allImages(ctx.db)) await attempt(() => this.#copyImage(ctx, opened, row));
    for (const row of await allTemplates(ctx.db)) await attempt(() => this.#copyTemplate(ctx, opened, row));
    for (const { id, record_version } of await boxesAtRest(ctx.db)) {
      if (opened.versions.get(id) !== record_version) await attempt(() => this.#copyBox(ctx, opened, id));
    }
    return failed;
  }

  async #copyBox(
    ctx: ReplicasContext,
    { shelf, claim, versions }: Opened,
    id: string,
    signal: AbortSignal = this.#closing.signal,
  ): Promise<void> {
    const box = await captureAtRest(ctx, id, signal);
    if (!box) return;
    try {
      const layers = await shelf.putLayers(ctx.layers, box.layers, { signal });
      faultPoint('replica.manifest:before');
      await shelf.putManifest(keyOf.box(id), boxManifest(box, layers), { signal });
      faultPoint('replica.manifest:after');
      const version = box.row.record_version;
      if (await ctx.commits.run((tx) => noteReplica(tx, { box_id: id, store: claim.store, version }))) {
        versions.set(id, version);
      }
    } finally {
      await release(ctx.db, `replica:${id}`);
      ctx.gc.soon();
    }
  }

  async #copyTemplate(ctx: ReplicasContext, { shelf, put }: Opened, template: TemplateRow): Promise<void> {
    const { signal } = this.#closing;
    const key = keyOf.template(template.id);
    if (put.has(key)) return;
    try {
      const { memories, rows } = await ctx.commits.run(async (tx) => {
        const held = await memoriesOf(tx, [template]);
        const layerIds = held.flatMap(({ holds }) => holds);
        return { memories: held, rows: await holdForReplica(tx, template.id, layerIds) };
      });
      const layers = await shelf.putLayers(ctx.layers, rows, { signal });
      const manifest = { kind: 'template', format: storeFormat, template, memories, layers } as const;
      await shelf.putManifest(key, manifest, { signal });
      put.set(key, '');
    } finally {
      await release(ctx.db, `replica:${template.id}`);
    }
  }

  async #copyImage(ctx: ReplicasContext, { shelf, put }: Opened, image: ImageRow): Promise<void> {
    const { signal } = this.#closing;
    const key = keyOf.image(image.id);
    const disks = await disksOfImage(ctx.db, image.manifest_digest);
    const facts = JSON.stringify([image, disks]);
    if (put.get(key) === facts) return;
    try {
      // Nothing of any image is removed meanwhile.
      await ctx.images.contents.arrive(async () => {
        const blobs = await this.#copyBlobs(ctx, shelf, image);
        const layerIds = disks.map(({ layer_id }) => layer_id);
        const rows = await ctx.commits.run((tx) => holdForReplica(tx, image.id, layerIds));
        const layers = await shelf.putLayers(ctx.layers, rows, { signal });
        const manifest = { kind: 'image', format: storeFormat, image, disks, blobs, layers } as const;
        await shelf.putManifest(key, manifest, { signal });
        put.set(key, facts);
      });
    } finally {
      await release(ctx.db, `replica:${image.id}`);
    }
  }

  async #copyBlobs(ctx: ReplicasContext, shelf: Shelf, image: ImageRow): Promise<ImageManifest['blobs']> {
    const { signal } = this.#closing;
    const store = new BlobStore(ctx.paths.images);
    const blobs: { digest: string; sizeBytes: number }[] = [];
    for (const digest of new Set(blobsOf(image))) {
      await using file = await open(store.path(digest), 'r');
      const { size } = await file.stat();
      const name = digest.slice('sha256:'.length);
      if (!shelf.blobs.has(name)) {
        await shelf.store.put(keyOf.blob(digest), fileSource(file, size), { signal });
        shelf.blobs.add(name);
      }
      blobs.push({ digest, sizeBytes: size });
    }
    return blobs;
  }

  /** What is no longer in the home does not come back. */
  async #removeGone(ctx: ReplicasContext, { shelf, versions, put }: Opened): Promise<void> {
    const boxes = await idsOf(ctx.db, 'boxes');
    const keys = new Set([
      ...[...boxes].map(keyOf.box),
      ...(await allTemplates(ctx.db)).map(({ id }) => keyOf.template(id)),
      ...(await allImages(ctx.db)).map(({ id }) => keyOf.image(id)),
    ]);
    const gone = [...shelf.manifests].filter((key) => !keys.has(key));
    await shelf.removeManifests(gone, { signal: this.#closing.signal });
    for (const key of gone) put.delete(key);
    for (const id of versions.keys()) if (!boxes.has(id)) versions.delete(id);
  }
}
