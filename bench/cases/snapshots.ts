/** Snapshots and clones through an engine, durable when they return: issue 3, "Speed". */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { writeBlocks } from '../../test/engine/disk-files.js';
import { newHome } from '../../test/support/home.js';
import type { BenchCase, BenchRun, NamedCase } from '../harness.js';

async function timed(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await task();
  return performance.now() - started;
}

interface Parts {
  readonly runtime: Runtime;
  readonly box: Box;
  readonly home: string;
}

/** A box of an engine of its own; it is stopped, unless the case says otherwise. */
async function withBox(
  running: boolean,
  make: (parts: Parts) => Promise<Pick<BenchRun, 'measure'>>,
): Promise<BenchRun> {
  const home = await newHome();
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  const box = await runtime.create({ image: 'tiny', name: 'b' });
  if (!running) await box.stop();
  const { measure } = await make({ runtime, box, home: home.path });
  const teardown = async (): Promise<void> => {
    for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
    await engine.close();
    await home[Symbol.asyncDispose]();
  };
  return { measure, teardown };
}

const snapshot: BenchCase = {
  name: 'snapshot',
  unit: 'ms',
  rounds: 30,
  maxValue: 5,
  setup: () =>
    withBox(false, async ({ box, home }) => {
      let made = 0;
      return {
        measure: async () => {
          await writeBlocks(home, box.id, new Map([[0, (made % 250) + 1]]));
          const name = `s${made++}`;
          const ms = await timed(() => box.snapshot.create(name));
          // Chains stay short, as they are when snapshots come once in a while.
          if (made % 5 === 0) await box.snapshot.restore('s0');
          return ms;
        },
      };
    }),
};

const guestPause: BenchCase = {
  name: 'snapshot-running-pause',
  unit: 'ms',
  rounds: 20,
  maxValue: 30,
  setup: () =>
    withBox(true, async ({ box }) => {
      let made = 0;
      return {
        measure: async () => {
          await box.exec(['sh', '-c', `echo ${made} > /root/file`]);
          const { guestPauseMs } = await box.snapshot.create(`s${made++}`);
          return guestPauseMs;
        },
      };
    }),
};

const restore: BenchCase = {
  name: 'snapshot-restore',
  unit: 'ms',
  rounds: 30,
  maxValue: 5,
  setup: () =>
    withBox(false, async ({ box, home }) => {
      await writeBlocks(home, box.id, new Map([[0, 1]]));
      await box.snapshot.create('s');
      return { measure: () => timed(() => box.snapshot.restore('s')) };
    }),
};

function cloneCase(count: number, maxValue: number): BenchCase {
  return {
    name: `clone-${count}`,
    unit: 'ms',
    rounds: 15,
    maxValue,
    setup: () =>
      withBox(false, async ({ runtime, box, home }) => {
        await writeBlocks(home, box.id, new Map([[0, 1]]));
        await box.snapshot.create('s');
        return {
          measure: async () => {
            let clones: Box[] = [];
            const ms = await timed(async () => {
              const calls = Array.from({ length: count }, () => box.clone(undefined, { fromSnapshot: 's' }));
              clones = await Promise.all(calls);
            });
            for (const { id } of clones) await runtime.remove(id);
            await runtime.gc();
            return ms;
          },
        };
      }),
  };
}

const list: BenchCase = {
  name: 'list-1000',
  unit: 'ms',
  rounds: 20,
  maxValue: 5,
  setup: () =>
    withBox(false, async ({ box }) => {
      for (let i = 0; i < 1000; i += 1) await box.snapshot.create(`s${i}`);
      return { measure: () => timed(() => box.snapshot.list()) };
    }),
};

const exportBox: BenchCase = {
  name: 'export-box',
  unit: 'ms',
  rounds: 9,
  setup: () =>
    withBox(false, async ({ box, home }) => {
      const out = join(home, 'out');
      await mkdir(out);
      return { measure: () => timed(() => box.export(join(out, 'b.boxsnap'))) };
    }),
};

const importBox: BenchCase = {
  name: 'import-box',
  unit: 'ms',
  rounds: 9,
  setup: () =>
    withBox(false, async ({ runtime, box, home }) => {
      const archive = await box.export(join(home, 'b.boxsnap'));
      return {
        measure: async () => {
          let made: Box | undefined;
          const ms = await timed(async () => {
            made = await runtime.import(archive);
          });
          await made?.remove();
          return ms;
        },
      };
    }),
};

/** The cases of snapshots, clones and archives of whole boxes. */
export const snapshotCases: readonly NamedCase[] = [
  snapshot,
  guestPause,
  restore,
  cloneCase(10, 10),
  cloneCase(100, 80),
  list,
  exportBox,
  importBox,
].map((bench) => ({ bench, baseline: 'none' }));
