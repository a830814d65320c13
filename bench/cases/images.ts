/** Images: issue 5, "Speed". */
import { createCipheriv } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { Engine } from '../../src/engine/index.js';
import { buildBaseDisk, parseReference } from '../../src/formats/oci/index.js';
import { BlobStore, type Image } from '../../src/image/index.js';
import { Puller, pullToDisk } from '../../src/registry/index.js';
import { writeLayout } from '../../test/image/support/layout.js';
import { TestRegistry } from '../../test/image/support/registry.js';
import { makeTar, type TestEntry } from '../../test/image/support/tar.js';
import { newHome } from '../../test/support/home.js';
import type { BenchCase, BenchRun } from '../harness.js';

const LAYERS = 8;
const FILES_PER_LAYER = 700;
const MIB = 1024 * 1024;
/** Content of a layer before it is packed; about half of it goes away. */
const LAYER_BYTES = 50 * MIB;

/** A case and what it is compared with. */
export interface ImageCase {
  readonly bench: BenchCase;
  readonly baseline: string;
}

/** A layer of files of many sizes, half noise and half words, the same each time. */
function makeLayer(index: number): Buffer {
  const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16, index + 1), Buffer.alloc(16)).update(
    Buffer.alloc(LAYER_BYTES / 2),
  );
  const words = Buffer.alloc(LAYER_BYTES / 2, 'the quick brown fox jumps over the lazy dog and runs away. ');
  const entries: TestEntry[] = [];
  let at = 0;
  for (let file = 0; file < FILES_PER_LAYER; file += 1) {
    // Sizes grow with the square: many small files, few large ones, together half of the layer.
    const length = Math.floor((3 * (LAYER_BYTES / 2) * file ** 2) / FILES_PER_LAYER ** 3);
    const content = Buffer.concat([noise.subarray(at, at + length), words.subarray(0, length)]);
    entries.push({ name: `usr/lib/layer${index}/part${file % 40}/file${file}`, content });
    at += length;
  }
  return makeTar(entries);
}

interface Rig {
  readonly directory: string;
  readonly registry: TestRegistry;
}

async function withRegistry(make: (rig: Rig) => Omit<BenchRun, 'teardown'>): Promise<BenchRun> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-bench-'));
  const registry = await TestRegistry.start({ directory: join(directory, 'registry') });
  const teardown = async (): Promise<void> => {
    await registry[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const layers = Array.from({ length: LAYERS }, (_, index) => makeLayer(index));
    const layout = await writeLayout(join(directory, 'layout'), [{ layers }]);
    await registry.push(`oci:${layout}`, 'bench:1');
    return { ...make({ directory, registry }), teardown };
  } catch (error) {
    await teardown();
    throw error;
  }
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await task();
  return performance.now() - start;
}

/** Runs a task in a fresh directory, which is emptied outside the measured time. */
async function inFresh(rig: Rig, task: (directory: string) => Promise<unknown>): Promise<number> {
  const directory = join(rig.directory, 'round');
  await mkdir(directory);
  const took = await timed(() => task(directory));
  await rm(directory, { recursive: true, force: true });
  return took;
}

async function pullAndConvert(rig: Rig, directory: string): Promise<Image> {
  const store = new BlobStore(join(directory, 'store'));
  const puller = new Puller({ store });
  try {
    const { image } = await pullToDisk({
      puller,
      store,
      reference: parseReference(`${rig.registry.name}/bench:1`),
      makeDisk: ({ manifestDigest }, layers, signal) =>
        buildBaseDisk({ path: join(directory, 'disk.ext4'), identity: manifestDigest, layers, signal }),
    });
    return image;
  } finally {
    await puller.close();
  }
}

async function withTools(rig: Rig, directory: string): Promise<void> {
  const layout = `oci:${join(directory, 'layout')}:bench`;
  const source = `docker://${rig.registry.name}/bench:1`;
  await execa('skopeo', ['--insecure-policy', 'copy', '--quiet', '--src-tls-verify=false', source, layout]);
  const rootless = process.getuid?.() === 0 ? [] : ['--rootless'];
  const bundle = join(directory, 'bundle');
  await execa('umoci', ['unpack', ...rootless, '--image', layout.slice('oci:'.length), bundle]);
  await execa('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-d',
    join(bundle, 'rootfs'),
    join(directory, 'disk.ext4'),
    '10G',
  ]);
}

const pull: ImageCase = {
  baseline: 'skopeo copy, umoci unpack, mke2fs -d',
  bench: {
    name: 'image-pull',
    unit: 'ms',
    rounds: 3,
    maxRatio: 0.8,
    setup: () =>
      withRegistry((rig) => ({
        measure: () => inFresh(rig, (directory) => pullAndConvert(rig, directory)),
        baseline: () => inFresh(rig, (directory) => withTools(rig, directory)),
      })),
  },
};

const pullAgain: ImageCase = {
  baseline: '',
  bench: {
    name: 'image-pull-again',
    unit: 'ms',
    rounds: 20,
    maxValue: 50,
    setup: async () => {
      const home = await newHome();
      const engine = await Engine.open({ home: home.path, poolSize: 0 });
      const { images } = engine.runtime();
      const run = await withRegistry(({ registry }) => {
        const reference = `${registry.name}/bench:1`;
        const first = images.pull(reference);
        return {
          measure: async () => {
            await first;
            return await timed(() => images.pull(reference));
          },
        };
      });
      return {
        ...run,
        teardown: async () => {
          await run.teardown();
          await engine.close();
          await home[Symbol.asyncDispose]();
        },
      };
    },
  },
};

/** The cases of issue 5. */
export const imageCases: readonly ImageCase[] = [pull, pullAgain];
