import { basename } from 'node:path';
import type {
  BuildOptions,
  CallOptions,
  ImportImageOptions,
  ProgressOptions,
  PullOptions,
  PullResult,
} from '../../api/index.js';
import { newId } from '../../base/ids.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import {
  formatPlatform,
  formatReference,
  hostPlatform,
  type ImageConfig,
  type Platform,
  parsePlatform,
  parseReference,
  platformMatches,
  shortRepository,
} from '../../formats/oci/index.js';
import { BlobStore, buildDebianImage, debianContents, type Image, importImage } from '../../image/index.js';
import {
  Puller,
  type PullProgress,
  type PullRegistry,
  pullToDisk,
  type Reach,
  type RegistrySettings,
  readRegistrySettings,
} from '../../registry/index.js';
import {
  type Database,
  findImage,
  findImageByDigest,
  type GroupCommit,
  type ImageRow,
  insertImage,
  isUniqueViolation,
  putImage,
} from '../../store/index.js';
import type { HomePaths } from '../core/home.js';
import type { Limits } from '../core/limits.js';
import type { LayerFiles } from '../layers/layer-files.js';
import type { Scratch } from '../layers/scratch.js';
import { BaseDisks, largestBaseGb } from './base-disks.js';
import { blobsOf, ImageContents } from './contents.js';

const idPattern = /^sha256:[0-9a-f]{64}$/;
/** As much of an id as listings show, or more. */
const shortIdPattern = /^(?:sha256:)?([0-9a-f]{12,64})$/;

interface ImageNeeds {
  readonly paths: HomePaths;
  readonly db: Database;
  readonly commits: GroupCommit;
  readonly layers: LayerFiles;
  readonly limits: Limits;
  readonly scratch: Scratch;
  readonly logger: Logger;
}

/** What a caller that is no user of this host may have asked. */
export interface PullLimits {
  /** Registries that need not be on the public internet, beside those of the home's settings. Absent: all. */
  readonly allowedRegistries?: readonly string[];
}

/** An image of a tenant, ready to make boxes from. */
export interface StoredImage {
  readonly row: ImageRow;
  readonly config: ImageConfig;
  /** Of images of before it was noted, this host's. */
  readonly platform: Platform;
}

/** The images of a home: blobs by digest, references in the database. */
export class ImageStore {
  readonly contents: ImageContents;
  readonly disks: BaseDisks;
  readonly #blobs: BlobStore;
  readonly #needs: ImageNeeds;
  readonly #puller: Puller;
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(needs: ImageNeeds) {
    this.#needs = needs;
    const { paths } = needs;
    this.#blobs = new BlobStore(paths.images);
    const blobs = this.#blobs;
    this.contents = new ImageContents({ ...needs, blobs, folder: basename(paths.images) });
    this.disks = new BaseDisks({ ...needs, blobs });
    this.#puller = new Puller({ store: blobs });
  }

  /** Ends what is under way, and connections to registries. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#underWay);
    await this.#puller.close();
  }

  /** Finds an image of a tenant by reference, or by the digest of its configuration, also the begin of its hex digits. */
  async find(tenant: string, reference: string): Promise<StoredImage | undefined> {
    const { db } = this.#needs;
    const isId = idPattern.test(reference);
    const byName = isId ? undefined : await findImage(db, tenant, formatReference(parseReference(reference)));
    const hex = byName ? undefined : shortIdPattern.exec(reference)?.[1];
    const row = byName ?? (hex && (await findImageByDigest(db, tenant, `sha256:${hex}`)));
    if (!row) return undefined;
    const { platform = hostPlatform(), ...config } = JSON.parse(row.config) as StoredConfig;
    return { row, config, platform };
  }

  /** The image a new box is made of; one that is not here is pulled. Throws `image_not_found` and what a pull throws. */
  async require(
    tenant: string,
    reference: string,
    options: ProgressOptions & PullLimits & Pick<PullOptions, 'platform'>,
  ): Promise<StoredImage> {
    const here = await this.find(tenant, reference);
    if (here) return ofPlatform(here, options.platform);
    if (idPattern.test(reference)) throw noImage(reference);
    try {
      await this.pull(tenant, reference, { ...options, pullPolicy: 'missing' });
    } catch (error) {
      throw notHereAnd(reference, error);
    }
    const image = await this.find(tenant, reference);
    if (!image) throw noImage(reference);
    return image;
  }

  /** Brings an image from its registry, its base disk made while the layers arrive. */
  async pull(tenant: string, reference: string, options: PullOptions & PullLimits): Promise<PullResult> {
    const parsed = parseReference(reference);
    const { pullPolicy = 'always' } = options;
    const here = pullPolicy === 'always' ? undefined : await this.find(tenant, reference);
    if (here) return resultOf(here.row);
    if (pullPolicy === 'never') throw noImage(reference);
    const known = await readRegistrySettings(this.#needs.paths.registries);
    const settings = known[parsed.registry];
    const request = {
      reference: parsed,
      platform: platformOf(options),
      registry: registryOf(tenant, settings, options),
      reach: reachOf(known, options),
      onProgress: (progress: PullProgress) => options.onProgress?.(asProgress(progress)),
    };
    return await this.#arrive(options, async (signal) => {
      let resolved: Image | undefined;
      try {
        const { image } = await pullToDisk({
          ...request,
          signal,
          puller: this.#puller,
          store: this.#blobs,
          makeDisk: (image, layers, own) => {
            resolved = image;
            return this.disks.ofArriving(image, layers, own);
          },
        });
        return await this.#publish(tenant, reference, image);
      } catch (error) {
        // Layers of a broken pull are worth a second attempt, those of a bad image are not.
        const isBad = isCryoboxError(error, 'image_refused') || isCryoboxError(error, 'image_invalid');
        if (resolved && isBad) await this.contents.discard(digestsOf(resolved));
        throw error;
      }
    });
  }

  /** Gives an image one more tag of its name. Throws `invalid_argument`, `already_exists`. */
  async alias(source: ImageRow, tag: string): Promise<ImageRow> {
    const { registry, repository } = parseReference(source.reference);
    const named = parseReference(`${registry}/${repository}:${tag}`);
    const reference = formatReference(named);
    const row = { ...source, id: newId('img'), reference, tag: named.tag ?? '', cached_at: Date.now() };
    try {
      await this.#needs.commits.run((tx) => insertImage(tx, row));
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      throw new CryoboxError('already_exists', `there is an image ${reference} already`, {
        hint: 'Choose another tag, or remove that one first.',
        details: { image: reference },
      });
    }
    return row;
  }

  /** Copies an image from the host's files. */
  async import(tenant: string, path: string, options: ImportImageOptions): Promise<PullResult> {
    if (options.reference !== undefined) parseReference(options.reference);
    return await this.#make(tenant, options, async (signal) => {
      await using scratch = await this.#needs.scratch.take();
      const image = await importImage({
        source: path,
        store: this.#blobs,
        scratchDirectory: scratch.path,
        platform: platformOf(options),
        signal,
        onProgress: (progress) => options.onProgress?.(asProgress(progress)),
      });
      const reference = options.reference ?? image.name;
      if (reference === undefined) {
        throw new CryoboxError('invalid_argument', `${path} names no image: give a reference for it`);
      }
      return { reference, image };
    });
  }

  /** Builds an image from Debian packages. */
  async build(tenant: string, name: string, options: BuildOptions): Promise<PullResult> {
    parseReference(name);
    const contents = debianContents(options);
    return await this.#make(tenant, options, async (signal) => {
      await using scratch = await this.#needs.scratch.take();
      const image = await buildDebianImage({
        ...contents,
        store: this.#blobs,
        scratchDirectory: scratch.path,
        signal,
        onProgress: (message) => options.onProgress?.({ stage: message, doneBytes: 0 }),
      });
      return { reference: name, image };
    });
  }

  /** Where the blobs of images are. */
  get blobs(): BlobStore {
    return this.#blobs;
  }

  /** Makes an image by a task and gives it its name, disk and all; when that fails, nothing but what is known of steps stays. */
  async made(
    tenant: string,
    name: string,
    options: ProgressOptions,
    task: (signal: AbortSignal) => Promise<Image>,
  ): Promise<PullResult> {
    parseReference(name);
    return await this.#make(tenant, options, async (signal) => ({
      reference: name,
      image: await task(signal),
    }));
  }

  /** An image whose blobs are here and that has no name yet, for boxes that are told to be of `name`. */
  unnamed(tenant: string, name: string, image: Image): StoredImage {
    return { row: rowOf(tenant, name, image), config: image.config, platform: image.platform };
  }

  /** Makes a reference of a tenant point at an image whose blobs are all here. */
  async #publish(tenant: string, name: string, image: Image): Promise<PullResult> {
    const row = rowOf(tenant, name, image);
    const before = await this.#needs.commits.run((tx) => putImage(tx, row));
    if (before && before.manifest_digest !== row.manifest_digest) {
      await this.contents.discard(blobsOf(before));
    }
    return resultOf(row);
  }

  /** Makes an image from what is on this host, disk and all; when that fails, nothing of it stays. */
  async #make(
    tenant: string,
    options: ProgressOptions,
    task: (signal: AbortSignal) => Promise<{ readonly reference: string; readonly image: Image }>,
  ): Promise<PullResult> {
    return await this.#arrive(options, async (signal) => {
      const startedAt = Date.now();
      try {
        const { reference, image } = await task(signal);
        const row = { manifest_digest: image.manifestDigest };
        await this.disks.get(row, largestBaseGb, { ...options, signal });
        return await this.#publish(tenant, reference, image);
      } catch (error) {
        await this.contents.discardSince(startedAt);
        throw error;
      }
    });
  }

  /** Runs what brings an image, until the caller cancels it or the engine closes. Throws `resource_exhausted`. */
  async #arrive<T>({ signal }: CallOptions, task: (signal: AbortSignal) => Promise<T>): Promise<T> {
    await this.#needs.limits.admitWriting();
    const either = signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
    const arriving = this.contents.arrive(() => task(either));
    this.#underWay.add(arriving);
    try {
      return await arriving;
    } finally {
      this.#underWay.delete(arriving);
    }
  }
}

/** What is stored of an image's configuration; the platform since boxes of several can be made. */
type StoredConfig = ImageConfig & { readonly platform?: Platform };

function platformOf({ platform }: { readonly platform?: string }): Platform | undefined {
  return platform === undefined ? undefined : parsePlatform(platform);
}

/** The image, unless another platform than its own is asked for: `unsupported` then. */
function ofPlatform(image: StoredImage, asked: string | undefined): StoredImage {
  const wanted = platformOf({ platform: asked });
  if (!wanted || platformMatches(image.platform, wanted)) return image;
  const { reference } = image.row;
  const has = formatPlatform(image.platform);
  throw new CryoboxError('unsupported', `${reference} here is made for ${has}, not for ${asked}`, {
    hint: `Pull it for that platform, which replaces it: \`npx cryobox pull --platform ${asked} ${reference}\`.`,
    details: { image: reference, wanted: asked, platform: has },
  });
}

/** The error of a reference or id that names no image of the tenant. */
export function noImage(reference: string): CryoboxError {
  return new CryoboxError('image_not_found', `there is no image ${JSON.stringify(reference)} here`, {
    hint: howToMake(reference),
    details: { image: reference },
  });
}

/** What brings an image: a name without a registry may be meant for one that is made here. */
function howToMake(reference: string): string {
  const name = /^([a-z0-9._-]+)(:latest)?$/.exec(reference)?.[1];
  const all = '`npx cryobox images ls` shows what is here.';
  if (name === undefined) return `\`npx cryobox pull ${reference}\` pulls it; ${all}`;
  return `\`npx cryobox images build ${name} --packages python3\` makes one with Python; ${all}`;
}

/** Says of a pull that nobody asked for by name why it was tried. */
function notHereAnd(reference: string, error: unknown): unknown {
  if (!isCryoboxError(error) || isCryoboxError(error, 'cancelled')) return error;
  const { code, message, hint, details } = error;
  const text = `there is no image ${JSON.stringify(reference)} here, and it cannot be pulled: ${message}`;
  const isBare = /^[a-z0-9._-]+(:latest)?$/.test(reference);
  const more = isBare ? `${howToMake(reference)} ${hint}` : hint;
  return new CryoboxError(code, text, { cause: error, hint: more, details });
}

function rowOf(tenant: string, name: string, image: Image): ImageRow {
  const parsed = parseReference(name);
  return {
    id: newId('img'),
    tenant,
    reference: formatReference(parsed),
    repository: shortRepository(parsed),
    tag: parsed.tag ?? '',
    manifest_digest: image.manifestDigest,
    config_digest: image.configDigest,
    config: JSON.stringify({ ...image.config, platform: image.platform } satisfies StoredConfig),
    layers: JSON.stringify(image.layers),
    size_bytes: image.sizeBytes,
    cached_at: Date.now(),
  };
}

function digestsOf({ manifestDigest, configDigest, layers }: Image): string[] {
  return [manifestDigest, configDigest, ...layers.map(({ digest }) => digest)];
}

function resultOf(
  row: Pick<ImageRow, 'reference' | 'config_digest' | 'manifest_digest' | 'layers' | 'size_bytes'>,
): PullResult {
  return {
    reference: row.reference,
    configDigest: row.config_digest,
    manifestDigest: row.manifest_digest,
    layerCount: (JSON.parse(row.layers) as unknown[]).length,
    sizeBytes: row.size_bytes,
  };
}

/** Registries and mirrors that the home's settings name may be asked by everybody: the owner has named them. */
function reachOf(
  known: Readonly<Record<string, RegistrySettings>>,
  { allowedRegistries }: PullLimits,
): Reach {
  const mirrors = Object.values(known).flatMap((settings) => settings.mirrors ?? []);
  const named = [...Object.keys(known), ...mirrors.map((mirror) => mirror.replace(/^https?:\/\/|\/$/g, ''))];
  return { isOwner: allowedRegistries === undefined, allowed: [...named, ...(allowedRegistries ?? [])] };
}

/** What docker is logged in to on this host is the owner's: other tenants bring credentials of their own. */
function registryOf(
  tenant: string,
  known: PullRegistry | undefined,
  { registry }: PullOptions,
): PullRegistry | undefined {
  const { username, password, ...own } = registry ?? {};
  const settings = { ...known, ...withoutUndefined(own) };
  if (username !== undefined) return { ...settings, credentials: { username, password: password ?? '' } };
  if (tenant !== '') return { ...settings, credentials: 'none' };
  return known || registry ? settings : undefined;
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

function asProgress({
  digest,
  bytes,
  totalBytes,
}: Omit<PullProgress, 'totalBytes'> & { totalBytes?: number }) {
  return {
    stage: 'layer',
    item: digest,
    doneBytes: bytes,
    ...(totalBytes === undefined ? {} : { totalBytes }),
  };
}
