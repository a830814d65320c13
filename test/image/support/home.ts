import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type BaseDisk,
  type BuildBaseDiskOptions,
  buildBaseDisk,
} from '../../../src/formats/oci/base-disk.js';
import type { ImageLimits } from '../../../src/formats/oci/limits.js';
import { layerSources } from '../../../src/image/image.js';
import { importImage } from '../../../src/image/import.js';
import type { ImportedImage } from '../../../src/image/oci-layout.js';
import { BlobStore } from '../../../src/image/store.js';
import { type TestImage, writeLayout } from './layout.js';

/** Small enough for tests, and more than one group. */
export const testDiskBytes = 256 * 2 ** 20;

/** A temporary directory with a store, removed at the end of `await using`. */
export class TestHome implements AsyncDisposable {
  readonly directory: string;
  readonly store: BlobStore;
  readonly scratch: string;
  readonly disk: string;

  private constructor(directory: string) {
    this.directory = directory;
    this.store = new BlobStore(join(directory, 'store'));
    this.scratch = join(directory, 'scratch');
    this.disk = join(directory, 'disk.ext4');
  }

  static async create(): Promise<TestHome> {
    return new TestHome(await mkdtemp(join(tmpdir(), 'cryobox-image-')));
  }

  /** Writes an image as a layout, imports it and builds its disk. */
  async build(
    image: TestImage,
    more: Partial<BuildBaseDiskOptions> & { limits?: Partial<ImageLimits> } = {},
  ): Promise<BaseDisk> {
    const imported = await this.import(image);
    return await this.buildDisk(imported, more);
  }

  async import(image: TestImage): Promise<ImportedImage> {
    const source = await writeLayout(join(this.directory, 'layout'), [image]);
    return await importImage({ source, store: this.store, scratchDirectory: this.scratch });
  }

  async buildDisk(image: ImportedImage, more: Partial<BuildBaseDiskOptions> = {}): Promise<BaseDisk> {
    return await buildBaseDisk({
      path: this.disk,
      identity: image.manifestDigest,
      layers: layerSources(this.store, image),
      sizeBytes: testDiskBytes,
      ...more,
    });
  }

  /** Names left in the directory, to show that nothing was left behind. */
  async names(): Promise<string[]> {
    const names = await readdir(this.directory, { recursive: true });
    return names.sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}
