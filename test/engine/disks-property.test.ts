import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { openChain } from '../../src/formats/qcow2/index.js';
import { part } from '../support/part.js';
import { blockOffset, checkAllImages, layerFiles, withDatabase, writeBlocks } from './disk-files.js';
import { failureOf, TestEngine } from './support.js';

/** 50 by default, others with each part; `CRYOBOX_SEQUENCES=5000 npx vitest run test/engine/disks-property` for many. */
const sequences = Number(process.env.CRYOBOX_SEQUENCES ?? 50);
const limitMs = 60_000 + sequences * 3_000;
const blockCount = 4;
const maxBoxes = 4;
const snapshotNames = ['s0', 's1', 's2'];

const engine = new TestEngine();
let origin: Box;

/** A stopped box whose chain is so long that a few snapshots more bring it to its limit. */
beforeAll(async () => {
  await engine.runtime.images.remove('debian-python');
  origin = await engine.runtime.create({ image: 'tiny', name: 'origin' });
  await origin.stop();
  for (let i = 0; i < 9; i += 1) {
    await writeBlocks(engine.home, origin.id, new Map([[0, i + 1]]));
    await origin.snapshot.create(`o${i}`);
  }
  await engine.runtime.gc();
});

type Blocks = readonly number[];
interface ModelBox {
  readonly box: Box;
  blocks: Blocks;
  readonly snapshots: Map<string, Blocks>;
}

const pick = fc.nat(maxBoxes - 1);
const name = fc.constantFrom(...snapshotNames);
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('write' as const), pick, block: fc.nat(3), value: fc.nat(254) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('snapshot' as const), pick, name }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('restore' as const), pick, name }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('forget' as const), pick, name }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('clone' as const), pick, cow: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('clone-snapshot' as const), pick, name }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('move' as const), pick, compress: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('gc' as const), pick }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** What our boxes hold, as plain data beside the real ones. */
class Model {
  readonly boxes: ModelBox[] = [];
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  add(box: Box, blocks: Blocks): void {
    this.boxes.push({ box, blocks, snapshots: new Map() });
  }

  async run(it: Step): Promise<void> {
    if (it.do === 'gc') {
      await engine.runtime.gc();
      return;
    }
    const target = this.boxes[it.pick % this.boxes.length];
    if (!target) return;
    const full = this.boxes.length >= maxBoxes;
    if (it.do === 'write') return await this.#write(target, it.block, it.value + 1);
    if (it.do === 'snapshot' || it.do === 'restore' || it.do === 'forget')
      return await named(target, it.do, it.name);
    if (it.do === 'clone' && !full)
      return this.add(await target.box.clone(undefined, { cow: it.cow }), target.blocks);
    if (it.do === 'clone-snapshot' && !full) return await this.#cloneSnapshot(target, it.name);
    if (it.do === 'remove') {
      await target.box.remove();
      this.boxes.splice(this.boxes.indexOf(target), 1);
    } else if (it.do === 'move' && !full) await this.#move(target, it.compress);
  }

  async #write(target: ModelBox, block: number, value: number): Promise<void> {
    await writeBlocks(engine.home, target.box.id, new Map([[block, value]]));
    target.blocks = target.blocks.with(block, value);
  }

  async #cloneSnapshot(target: ModelBox, fromSnapshot: string): Promise<void> {
    const blocks = target.snapshots.get(fromSnapshot);
    const clone = target.box.clone(undefined, { fromSnapshot });
    if (blocks) this.add(await clone, blocks);
    else expect(await failureOf(clone)).toMatchObject({ code: 'not_found' });
  }

  async #move(target: ModelBox, compress: boolean): Promise<void> {
    const archive = await target.box.export(join(this.#directory, 'moved.boxsnap'), { compress });
    this.add(await engine.runtime.import(archive), target.blocks);
  }
}

/** What is done with a snapshot by its name, which may be there or not. */
async function named(target: ModelBox, what: 'snapshot' | 'restore' | 'forget', name: string): Promise<void> {
  const { box, snapshots } = target;
  const blocks = snapshots.get(name);
  if (what === 'snapshot') {
    if (blocks)
      return expect(await failureOf(box.snapshot.create(name))).toMatchObject({ code: 'already_exists' });
    await box.snapshot.create(name);
    snapshots.set(name, target.blocks);
    return;
  }
  const call = what === 'restore' ? box.snapshot.restore(name) : box.snapshot.remove(name);
  if (!blocks) return expect(await failureOf(call)).toMatchObject({ code: 'not_found' });
  await call;
  if (what === 'restore') target.blocks = blocks;
  else snapshots.delete(name);
}

/** Compares every disk, of boxes and of snapshots, with the model, and has qemu-img look at every image. */
async function compare(model: Model): Promise<void> {
  const real = new Map<string, string>();
  await withDatabase(engine.home, async (db) => {
    for (const { id, disk_head } of await db.selectFrom('boxes').selectAll().execute()) {
      real.set(id, await blocksOf(disk_head));
    }
    for (const { box_id, name, disk_layer } of await db.selectFrom('snapshots').selectAll().execute()) {
      real.set(`${box_id} ${name}`, await blocksOf(disk_layer));
    }
  });
  for (const key of [...real.keys()]) if (key.startsWith(origin.id)) real.delete(key);
  const expected = new Map<string, string>();
  for (const { box, blocks, snapshots } of model.boxes) {
    expected.set(box.id, blocks.join());
    for (const [name, held] of snapshots) expected.set(`${box.id} ${name}`, held.join());
  }
  expect(real).toEqual(expected);
  await checkAllImages(engine.home);
}

/** One byte of each block; fails when a block is not of one value. Goes by headers, as other tools do. */
async function blocksOf(top: string): Promise<string> {
  await using chain = await openChain({ directory: join(engine.home, 'layers'), top });
  expect(chain.depth).toBeLessThanOrEqual(16);
  const values: number[] = [];
  for (let block = 0; block < blockCount; block += 1) {
    const bytes = await chain.read(blockOffset(block), 65_536);
    expect(bytes.equals(Buffer.alloc(65_536, bytes[0]))).toBe(true);
    values.push(bytes[0] ?? 0);
  }
  return values.join();
}

async function collected(): Promise<string[]> {
  await engine.runtime.gc();
  return await layerFiles(engine.home);
}

it('keeps what was written, whatever is done with boxes and snapshots', { timeout: limitMs }, async () => {
  const directory = await mkdtemp(join(engine.home, 'property-'));
  const before = await layerFiles(engine.home);
  const run = async (steps: readonly Step[]): Promise<void> => {
    const model = new Model(directory);
    try {
      model.add(await origin.clone(undefined, { fromSnapshot: 'o8' }), [9, 0, 0, 0]);
      for (const it of steps) await model.run(it);
      await compare(model);
    } finally {
      for (const { box } of model.boxes) await box.remove();
    }
    // A flatten in the background may still hold what it reads.
    await expect.poll(collected, { timeout: 20_000 }).toEqual(before);
  };
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), run), {
    numRuns: sequences,
    seed: part,
    endOnFailure: true,
  });
  expect(await engine.runtime.verify()).toMatchObject({ ok: true, problems: [] });
  await rm(directory, { recursive: true });
});
