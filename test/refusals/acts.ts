import { join } from 'node:path';
import type { Box, Runtime } from '../../src/api/index.js';

/** Where an act works. */
export interface Stage {
  readonly runtime: Runtime;
  /** For archives; outside of the home. */
  readonly directory: string;
}

/** An operation that the host refuses something in the middle of. */
export interface Act {
  /** What is there before; nothing is refused meanwhile. */
  prepare(stage: Stage): Promise<Box | undefined>;
  run(stage: Stage, box: Box | undefined): Promise<unknown>;
  /** States that the prepared box may be in afterwards, `gone` where it may have been removed; the first is its old one. */
  readonly states: readonly string[];
}

const running = async ({ runtime }: Stage): Promise<Box> =>
  await runtime.create({ image: 'tiny', name: 'b', detach: true });

const stopped = async (stage: Stage): Promise<Box> => {
  const box = await running(stage);
  await box.stop();
  return box;
};

const paused = async (stage: Stage): Promise<Box> => {
  const box = await running(stage);
  await box.pause();
  return box;
};

const withSnapshot =
  (make: (stage: Stage) => Promise<Box>, memory: boolean) =>
  async (stage: Stage): Promise<Box> => {
    const box = await make(stage);
    await box.snapshot.create('point', { memory });
    return box;
  };

function act(
  prepare: (stage: Stage) => Promise<Box | undefined>,
  states: readonly string[],
  run: (box: Box, stage: Stage) => Promise<unknown>,
): Act {
  return { prepare, states, run: (stage, box) => run(box as Box, stage) };
}

const nothing = async (): Promise<undefined> => undefined;

/** All of them by name. */
export const acts: Readonly<Record<string, Act>> = {
  create: act(nothing, [], (_, { runtime }) => runtime.create({ image: 'tiny', name: 'n', detach: true })),
  start: act(stopped, ['stopped', 'running'], (box) => box.start()),
  // One that was refused in the middle is completed by whatever is done to the box next.
  stop: act(running, ['running', 'stopped', 'stopping'], (box) => box.stop()),
  remove: act(running, ['running', 'stopped', 'gone'], (box) => box.remove({ force: true })),
  pause: act(running, ['running', 'paused'], (box) => box.pause()),
  resume: act(paused, ['paused', 'running'], (box) => box.resume()),
  snapshot: act(stopped, ['stopped'], (box) => box.snapshot.create('new')),
  'memory-snapshot': act(running, ['running'], (box) => box.snapshot.create('new', { memory: true })),
  restore: act(withSnapshot(stopped, false), ['stopped'], (box) => box.snapshot.restore('point')),
  rollback: act(withSnapshot(running, true), ['running', 'paused'], (box) =>
    box.snapshot.restore('point', { live: true }),
  ),
  'snapshot-remove': act(withSnapshot(stopped, false), ['stopped'], (box) => box.snapshot.remove('point')),
  fork: act(running, ['running'], async (box) => {
    for (const result of await box.fork({ count: 1 })) if ('error' in result) throw result.error;
  }),
  clone: act(stopped, ['stopped'], (box) => box.clone('c')),
  export: act(stopped, ['stopped'], (box, { directory }) => box.export(join(directory, 'e.boxsnap'))),
  import: act(
    async (stage) => {
      const box = await stopped(stage);
      await box.export(join(stage.directory, 'given.boxsnap'));
      return box;
    },
    ['stopped'],
    (_, { runtime, directory }) => runtime.import(join(directory, 'given.boxsnap'), { name: 'i' }),
  ),
  template: act(running, ['running'], (box, { runtime }) =>
    runtime.templates.create({ box: box.id, name: 't' }),
  ),
  'from-template': act(
    async (stage) => {
      const box = await running(stage);
      await stage.runtime.templates.create({ box: box.id, name: 't' });
      return box;
    },
    ['running'],
    (_, { runtime }) => runtime.create({ template: 't', name: 'n', detach: true }),
  ),
  gc: act(stopped, ['stopped'], (_, { runtime }) => runtime.gc()),
};
