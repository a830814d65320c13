import type {
  BuildOptions,
  CallOptions,
  DockerfileBuildOptions,
  ImageInfo,
  Images,
  ImportImageOptions,
  PullOptions,
  PullResult,
  RemoveImageOptions,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError } from '../../errors.js';
import { parseName, shortRepository } from '../../formats/oci/index.js';
import {
  boxesOfImage,
  deleteBuildSteps,
  deleteImage,
  type ImageRow,
  listImages,
  listImagesOfRepository,
} from '../../store/index.js';
import { isFromDockerfile } from '../../surface/build-context.js';
import { tell } from '../core/events.js';
import { blobsOf } from './contents.js';
import type { ImagesContext } from './context.js';
import { noImage } from './store.js';

/** Builds an image by the steps of a Dockerfile, which takes boxes. */
export type BuildSteps = (name: string, options: DockerfileBuildOptions) => Promise<PullResult>;

/** The images of one tenant. */
export class EngineImages implements Images {
  readonly #ctx: ImagesContext;
  readonly #tenant: string;
  readonly #buildSteps: BuildSteps;

  constructor(ctx: ImagesContext, tenant: string, buildSteps: BuildSteps) {
    this.#ctx = ctx;
    this.#buildSteps = buildSteps;
    this.#tenant = tenant;
  }

  async pull(reference: string, options: PullOptions = {}): Promise<PullResult> {
    const { images, allowedRegistries } = this.#ctx;
    return this.#told(await images.pull(this.#tenant, reference, { ...options, allowedRegistries }));
  }

  async import(path: string, options: ImportImageOptions = {}): Promise<PullResult> {
    return this.#told(await this.#ctx.images.import(this.#tenant, path, options));
  }

  async build(name: string, options: BuildOptions | DockerfileBuildOptions): Promise<PullResult> {
    if (isFromDockerfile(options)) return this.#told(await this.#buildSteps(name, options));
    return this.#told(await this.#ctx.images.build(this.#tenant, name, options));
  }

  #told(result: PullResult): PullResult {
    tell(this.#ctx, { tenant: this.#tenant, kind: 'image', id: result.reference, change: 'arrived' });
    return result;
  }

  async list({ signal }: CallOptions = {}): Promise<ImageInfo[]> {
    throwIfCancelled(signal, 'the listing of images');
    return (await listImages(this.#ctx.db, this.#tenant)).map(infoOf);
  }

  async get(reference: string, { signal }: CallOptions = {}): Promise<ImageInfo | null> {
    throwIfCancelled(signal, 'the look-up of an image');
    const image = await this.#ctx.images.find(this.#tenant, reference);
    return image ? infoOf(image.row) : null;
  }

  async named(name: string, { signal }: CallOptions = {}): Promise<ImageInfo[]> {
    throwIfCancelled(signal, 'the look-up of images');
    return (await this.#rowsOf(name)).map(infoOf);
  }

  async alias(name: string, tag: string, digest: string, { signal }: CallOptions = {}): Promise<ImageInfo> {
    throwIfCancelled(signal, 'the naming of an image');
    const source = (await this.#rowsOf(name)).find(
      (row) => row.manifest_digest === digest || row.config_digest === digest,
    );
    if (!source) throw noImage(`${name}@${digest}`);
    const row = await this.#ctx.images.alias(source, tag);
    tell(this.#ctx, { tenant: this.#tenant, kind: 'image', id: row.reference, change: 'arrived' });
    return infoOf(row);
  }

  async remove(reference: string, options: RemoveImageOptions = {}): Promise<void> {
    throwIfCancelled(options.signal, 'the removal of an image');
    const rows = options.allTags ? await this.#rowsOf(reference) : await this.#rowOf(reference);
    if (rows.length === 0) throw noImage(reference);
    if (options.force !== true) for (const row of rows) await this.#refuseUsed(row);
    for (const row of rows) await this.#drop(row);
  }

  async #rowOf(reference: string): Promise<ImageRow[]> {
    const image = await this.#ctx.images.find(this.#tenant, reference);
    return image ? [image.row] : [];
  }

  /** Images of a name without tag, the newest first. */
  async #rowsOf(name: string): Promise<ImageRow[]> {
    const repository = shortRepository(parseName(name));
    return await listImagesOfRepository(this.#ctx.db, this.#tenant, repository);
  }

  async #refuseUsed(row: ImageRow): Promise<void> {
    const users = await this.#boxesOf(row);
    if (users.length === 0) return;
    throw new CryoboxError('invalid_state', `${row.reference} is used by ${users.join(', ')}`, {
      hint: 'Remove the boxes first, or remove the image by force: the boxes keep their layers.',
      details: { boxes: users },
    });
  }

  async prune({ signal }: CallOptions = {}): Promise<string[]> {
    const removed: string[] = [];
    for (const row of await listImages(this.#ctx.db, this.#tenant)) {
      throwIfCancelled(signal, 'the removal of images');
      if ((await this.#boxesOf(row)).length > 0) continue;
      await this.#drop(row);
      removed.push(row.reference);
    }
    const { commits, images } = this.#ctx;
    const steps = await commits.run((tx) => deleteBuildSteps(tx, this.#tenant));
    await images.contents.discard(steps.flatMap(blobsOf));
    return removed;
  }

  async #boxesOf(row: ImageRow): Promise<string[]> {
    const boxes = await boxesOfImage(this.#ctx.db, this.#tenant, row.reference);
    return boxes.map(({ id, name }) => name ?? id);
  }

  /** The reference goes; disks and blobs go with the last reference to them. Boxes hold what they read. */
  async #drop(row: ImageRow): Promise<void> {
    const { commits, gc, images } = this.#ctx;
    await commits.run((tx) => deleteImage(tx, row.id));
    await images.contents.discard(blobsOf(row));
    tell(this.#ctx, { tenant: this.#tenant, kind: 'image', id: row.reference, change: 'removed' });
    gc.soon();
  }
}

function infoOf(row: ImageRow): ImageInfo {
  return {
    reference: row.reference,
    repository: row.repository,
    tag: row.tag,
    id: row.config_digest,
    manifestDigest: row.manifest_digest,
    layerCount: (JSON.parse(row.layers) as unknown[]).length,
    cachedAt: new Date(row.cached_at),
    sizeBytes: row.size_bytes,
  };
}
