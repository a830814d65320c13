import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkImage, createOverlay, flatten, openChain } from '../../src/formats/qcow2/index.js';
import { guestBytes, patterned, qemuImg, qemuIo, temporaryDirectory } from './support.js';

/** CI runs a few dozen; `CRYOBOX_DISK_RUNS=5000` runs more. */
const RUNS = Number(process.env.CRYOBOX_DISK_RUNS ?? 30);
const MAX_CLUSTERS = 24;
const CLUSTER = 65_536;
const SECTOR = 512;

/** One thing a guest, or the engine, does. Places are fractions of the disk. */
const step = fc.oneof(
  fc.record({
    do: fc.constantFrom('write', 'zero', 'unmap'),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    sectors: fc.integer({ min: 1, max: 400 }),
    value: fc.integer({ min: 0, max: 255 }),
  }),
  fc.record({ do: fc.constant('layer'), clusters: fc.integer({ min: 1, max: MAX_CLUSTERS }) }),
  fc.record({ do: fc.constantFrom('pack', 'packZstd', 'flatten') }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A chain of layers in a directory, and the bytes it must hold. */
class Model {
  readonly #directory: string;
  #layers = 0;
  #format: 'raw' | 'qcow2' = 'raw';
  bytes: Buffer;

  private constructor(directory: string, bytes: Buffer) {
    this.#directory = directory;
    this.bytes = bytes;
  }

  static async create(sectors: number): Promise<Model> {
    const model = new Model(await temporaryDirectory(), patterned(sectors * SECTOR));
    await writeFile(model.#path(0), model.bytes);
    await model.layer(model.bytes.length);
    return model;
  }

  get top(): string {
    return `l${this.#layers}`;
  }

  get directory(): string {
    return this.#directory;
  }

  async run(step: Step): Promise<void> {
    if ('clusters' in step) await this.layer(step.clusters * CLUSTER);
    else if ('sectors' in step) await this.#guestWrites(step);
    else if (step.do === 'flatten') await this.#flatten();
    else await this.#pack(step.do === 'packZstd' ? 'zstd' : 'zlib');
  }

  async layer(virtualSizeBytes: number): Promise<void> {
    const backing = { name: this.top, format: this.#format };
    this.#layers += 1;
    this.#format = 'qcow2';
    await createOverlay({ path: this.#path(this.#layers), virtualSizeBytes, backing });
    const grown = Buffer.alloc(virtualSizeBytes);
    this.bytes.copy(grown);
    this.bytes = grown;
  }

  async #guestWrites({ do: what, at, sectors, value }: Extract<Step, { sectors: number }>): Promise<void> {
    const disk = this.bytes.length / SECTOR;
    const first = Math.min(disk - 1, Math.floor(at * disk));
    const count = Math.min(sectors, disk - first);
    const range = `${first * SECTOR} ${count * SECTOR}`;
    const command = { write: `write -P ${value}`, zero: 'write -z', unmap: 'write -z -u' }[what];
    await qemuIo(this.#path(this.#layers), 'qcow2', `${command} ${range}`);
    this.bytes.fill(what === 'write' ? value : 0, first * SECTOR, (first + count) * SECTOR);
  }

  /** Replaces all layers by a compressed image that qemu-img made. */
  async #pack(type: 'zlib' | 'zstd'): Promise<void> {
    const path = this.#path(this.#layers + 1);
    const options = ['-c', '-O', 'qcow2', '-o', `compression_type=${type}`];
    await qemuImg('convert', ...options, this.#path(this.#layers), path);
    await this.#dropLayers();
  }

  async #flatten(): Promise<void> {
    await using chain = await openChain({ directory: this.#directory, top: this.top });
    await flatten({ chain, path: this.#path(this.#layers + 1) });
    await this.#dropLayers();
  }

  async #dropLayers(): Promise<void> {
    for (let i = 0; i <= this.#layers; i += 1) await rm(this.#path(i), { force: true });
    this.#layers += 1;
  }

  #path(layer: number): string {
    return join(this.#directory, `l${layer}`);
  }
}

describe('any sequence of writes, layers and flattenings', () => {
  it(`leaves the bytes it should, and clean images (${RUNS} runs)`, {
    timeout: 60_000 + RUNS * 2000,
  }, async () => {
    const sectors = fc.integer({ min: 1, max: (MAX_CLUSTERS * CLUSTER) / SECTOR });
    const steps = fc.array(step, { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(sectors, steps, async (size, todo) => {
        const model = await Model.create(size);
        for (const one of todo) await model.run(one);
        await using chain = await openChain({ directory: model.directory, top: model.top });
        expect((await guestBytes(chain)).equals(model.bytes)).toBe(true);
        for (const layer of chain.layers) {
          if (layer.format === 'raw') continue;
          expect(await checkImage(layer.path)).toMatchObject({ corruptions: 0, leaks: 0 });
          await qemuImg('check', layer.path);
        }
        await rm(model.directory, { recursive: true });
      }),
      { numRuns: RUNS },
    );
  });
});
