import type {
  BuildOptions,
  CallOptions,
  ImageInfo,
  Images,
  ProgressOptions,
  PullOptions,
  PullResult,
} from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { ImageRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { tell } from '../events.js';
import { blobsOf } from './contents.js';
import { noImage } from './store.js';

/** The images of one tenant. */
export class EngineImages implements Images {
  readonly #ctx: EngineContext;
  readonly #tenant: string;

  constructor(ctx: EngineContext, tenant: string) {
    this.#ctx = ctx;
    this.#tenant = tenant;
  }

  async pull(reference: string, options: PullOptions = {}): Promise<PullResult> {
    return this.#told(await this.#ctx.images.pull(this.#tenant, reference, options));
  }

  async import(
    path: string,
    options: ProgressOptions & { readonly reference?: string } = {},
  ): Promise<PullResult> {
    return this.#told(await this.#ctx.images.import(this.#tenant, path, options));
  }

  async build(name: string, options: BuildOptions): Promise<PullResult> {
    return this.#told(await this.#ctx.images.build(this.#tenant, name, options));
  }

  #told(result: PullResult): PullResult {
    tell(this.#ctx, { tenant: this.#tenant, kind: 'image', id: result.reference, change: 'arrived' });
    return result;
  }

  async list(): Promise<ImageInfo[]> {
    const rows = await this.#ctx.db
      .selectFrom('images')
      .selectAll()
      .where('tenant', '=', this.#tenant)
      .orderBy('reference')
      .execute();
    return rows.map(infoOf);
  }

  async get(reference: string): Promise<ImageInfo | null> {
    const image = await this.#ctx.images.find(this.#tenant, reference);
    return image ? infoOf(image.row) : null;
  }

  async remove(reference: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const image = await this.#ctx.images.find(this.#tenant, reference);
    if (!image) {
      throw noImage(reference);
    }
    const users = await this.#boxesOf(image.row);
    if (users.length > 0 && options.force !== true) {
      throw new CryoboxError('invalid_state', `${image.row.reference} is used by ${users.join(', ')}`, {
        hint: 'Remove the boxes first, or remove the image by force: the boxes keep their layers.',
        details: { boxes: users },
      });
    }
    await this.#drop(image.row);
  }

  async prune(): Promise<string[]> {
    const removed: string[] = [];
    const rows = await this.#ctx.db
      .selectFrom('images')
      .selectAll()
      .where('tenant', '=', this.#tenant)
      .execute();
    for (const row of rows) {
      if ((await this.#boxesOf(row)).length > 0) continue;
      await this.#drop(row);
      removed.push(row.reference);
    }
    return removed;
  }

  async #boxesOf(row: ImageRow): Promise<string[]> {
    const boxes = await this.#ctx.db
      .selectFrom('boxes')
      .select(['id', 'name'])
      .where('tenant', '=', this.#tenant)
      .where('image', '=', row.reference)
      .execute();
    return boxes.map(({ id, name }) => name ?? id);
  }

  /** The reference goes; disks and blobs go with the last reference to them. Boxes hold what they read. */
  async #drop(row: ImageRow): Promise<void> {
    const { commits, gc, images } = this.#ctx;
    await commits.run((tx) => tx.deleteFrom('images').where('id', '=', row.id).execute());
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
