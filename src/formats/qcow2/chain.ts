import { join } from 'node:path';
import { CryoboxError } from '../../errors.js';
import { type DiskFormat, invalidImage, isBackingName, MAX_CHAIN_DEPTH } from './format.js';
import { type Layer, openLayer } from './layer.js';
import type { DiskRange } from './map.js';
import { GuestReader } from './read.js';
import type { RegionMap } from './region.js';

/** Options of {@link openChain}. Give `directory`, or `resolve` where layers lie in several places. */
export interface OpenChainOptions {
  /** Name of the topmost layer. */
  readonly top: string;
  /** Format of the topmost layer. Default `qcow2`. */
  readonly topFormat?: DiskFormat;
  /** The directory that holds all layers by their names. */
  readonly directory?: string;
  /** Path of a layer by its name. */
  readonly resolve?: (name: string) => string | Promise<string>;
}

/**
 * Opens a layer and everything underneath it for reading. The caller closes the chain. Throws
 * `disk_image_invalid` for a damaged or refused header, a loop or more than 64 layers, `storage_error` when a file
 * cannot be opened, `invalid_argument` without a way to find layers.
 */
export async function openChain(options: OpenChainOptions): Promise<DiskChain> {
  const resolve = resolverOf(options);
  const layers: Layer[] = [];
  try {
    let next: { name: string; format: DiskFormat } | null = {
      name: options.top,
      format: options.topFormat ?? 'qcow2',
    };
    while (next) {
      const { name, format }: { name: string; format: DiskFormat } = next;
      if (layers.length === MAX_CHAIN_DEPTH) {
        throw invalidImage(options.top, `more than ${MAX_CHAIN_DEPTH} layers`);
      }
      const layer: Layer = await openLayer({ name, format, path: await resolve(name) });
      const loop = layers.some((above) => above.identity === layer.identity);
      layers.push(layer);
      if (loop) throw invalidImage(name, 'it is its own backing file');
      next = layer.header?.backing ?? null;
    }
    return new DiskChain(layers);
  } catch (error) {
    await Promise.all(layers.map((layer) => layer.close()));
    throw error;
  }
}

/** A layer to be opened, wherever its header says the next one is. */
export interface KnownLayer {
  readonly name: string;
  readonly format: DiskFormat;
  readonly path: string;
}

/**
 * Opens layers whose order is known, the top first: what their headers name as backing files does not matter. The
 * caller closes the chain. Throws `disk_image_invalid` for a damaged or refused header, `storage_error`.
 */
export async function openLayers(known: readonly KnownLayer[]): Promise<DiskChain> {
  const layers: Layer[] = [];
  try {
    for (const layer of known) layers.push(await openLayer(layer));
    return new DiskChain(layers);
  } catch (error) {
    await Promise.all(layers.map((layer) => layer.close()));
    throw error;
  }
}

/** Two disks that are open together. */
export interface OpenDisks extends AsyncDisposable {
  readonly from: DiskChain;
  readonly to: DiskChain;
}

/**
 * Opens two disks as {@link openLayers} does, each file once, so that what they share can be told. To be disposed of, not
 * the chains closed. Throws as {@link openLayers}.
 */
export async function openBoth(from: readonly KnownLayer[], to: readonly KnownLayer[]): Promise<OpenDisks> {
  const open = new Map<string, Layer>();
  const close = async (): Promise<void> => {
    await Promise.all([...open.values()].map((layer) => layer.close()));
  };
  const chainOf = async (known: readonly KnownLayer[]): Promise<DiskChain> => {
    const layers: Layer[] = [];
    for (const one of known) {
      const layer = open.get(one.path) ?? (await openLayer(one));
      open.set(one.path, layer);
      layers.push(layer);
    }
    return new DiskChain(layers);
  };
  try {
    return { from: await chainOf(from), to: await chainOf(to), [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** An open chain of layers; index 0 is the top. */
export class DiskChain implements AsyncDisposable {
  readonly layers: readonly Layer[];
  /** Bytes the guest sees: the top layer's. */
  readonly virtualSizeBytes: number;
  readonly #reader: GuestReader;

  constructor(layers: readonly Layer[]) {
    const [top] = layers;
    if (!top) throw new CryoboxError('internal', 'a chain needs at least one layer');
    this.layers = layers;
    this.virtualSizeBytes = top.virtualSizeBytes;
    this.#reader = new GuestReader(layers, this.virtualSizeBytes);
  }

  /** Number of layers. */
  get depth(): number {
    return this.layers.length;
  }

  /** Bytes of the file system that all layers together take. */
  get allocatedBytes(): number {
    return this.layers.reduce((sum, layer) => sum + layer.allocatedBytes, 0);
  }

  /**
   * Where guest bytes come from, in order and without gaps. Default: the whole disk. Throws `disk_image_invalid` for
   * damaged tables, `invalid_argument` outside the disk.
   */
  mapRanges(offset = 0, length = this.virtualSizeBytes - offset): AsyncGenerator<DiskRange> {
    return this.#reader.ranges(offset, length);
  }

  /** The merged cluster map of one 512 MiB region, for walking all clusters without an object for each. */
  async region(index: number): Promise<RegionMap> {
    return await this.#reader.region(index);
  }

  /**
   * Guest bytes, in a new buffer. Throws `disk_image_invalid` for damaged tables or clusters, `invalid_argument`
   * outside the disk, `storage_error` when a file cannot be read.
   */
  async read(offset: number, length: number): Promise<Buffer> {
    return await this.#reader.read(offset, length);
  }

  /** Fills `target` with guest bytes from `offset` on. Throws as {@link read}. */
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    await this.#reader.readInto(target, offset);
  }

  /** Closes all files. */
  async close(): Promise<void> {
    await Promise.all(this.layers.map((layer) => layer.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function resolverOf(options: OpenChainOptions): (name: string) => string | Promise<string> {
  if (options.resolve) return options.resolve;
  const { directory } = options;
  if (directory === undefined) {
    throw new CryoboxError('invalid_argument', 'openChain needs a directory or a resolver');
  }
  if (!isBackingName(options.top)) {
    throw new CryoboxError('invalid_argument', `top must be a plain file name, got ${options.top}`);
  }
  return (name) => join(directory, name);
}
