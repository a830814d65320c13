/** What a home of 10,000 boxes takes: opening it, collecting garbage, and asking for a little of it. */
import { Engine } from '../../src/engine/index.js';
import type { BenchCase, BenchRun, NamedCase } from '../harness.js';
import { homeOfBoxes } from '../support/many-boxes.js';

const boxes = 10_000;
const pageSize = 100;

async function timed(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await task();
  return performance.now() - started;
}

/** The figure of something that an open engine is asked. */
async function onOpenEngine(make: (engine: Engine) => Promise<BenchRun['measure']>): Promise<BenchRun> {
  const home = await homeOfBoxes(boxes);
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  const teardown = async (): Promise<void> => {
    await engine.close();
    await home[Symbol.asyncDispose]();
  };
  return { measure: await make(engine), teardown };
}

const open: BenchCase = {
  name: 'engine-open-10k',
  unit: 'ms',
  rounds: 5,
  maxValue: 1500,
  setup: async () => {
    const home = await homeOfBoxes(boxes);
    return {
      measure: async () => {
        let engine: Engine | undefined;
        const ms = await timed(async () => {
          engine = await Engine.open({ home: home.path, poolSize: 0 });
          await engine.runtime().get('first');
        });
        await engine?.close();
        return ms;
      },
      teardown: async () => home[Symbol.asyncDispose](),
    };
  },
};

const collect: BenchCase = {
  name: 'gc-10k',
  unit: 'ms',
  rounds: 10,
  maxValue: 1000,
  setup: () => onOpenEngine(async (engine) => () => timed(() => engine.runtime().gc())),
};

const snapshotInfo: BenchCase = {
  name: 'snapshot-info-10k',
  unit: 'ms',
  rounds: 50,
  maxValue: 5,
  setup: () =>
    onOpenEngine(async (engine) => {
      const box = await engine.runtime().get('first');
      return () => timed(async () => box?.snapshot.get('s'));
    }),
};

const listPage: BenchCase = {
  name: 'list-page-10k',
  unit: 'ms',
  rounds: 50,
  maxValue: 10,
  setup: () =>
    onOpenEngine(async (engine) => {
      let after: string | undefined;
      // Each page is another one, so nothing of it is remembered.
      return () =>
        timed(async () => {
          const page = await engine.runtime().list({ limit: pageSize, after });
          if (page.length !== pageSize) throw new Error(`expected ${pageSize} boxes, got ${page.length}`);
          after = page.at(-1)?.id;
        });
    }),
};

/** Every case of a home of many boxes. */
export const manyBoxesCases: readonly NamedCase[] = [open, collect, snapshotInfo, listPage].map((bench) => ({
  bench,
  baseline: '',
}));
