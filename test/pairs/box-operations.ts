import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Box, Runtime } from '../../src/api/index.js';
import type { Step } from './model.js';

/** What an operation of a pair works with. */
export interface Actor {
  readonly runtime: Runtime;
  readonly box: Box;
  readonly directory: string;
  /** 0 or 1: the first or the second of a pair. */
  readonly turn: number;
}

/** An operation of a pair. */
export interface Operation extends Step {
  readonly run: (actor: Actor) => Promise<unknown>;
}

/** What ends a process that runs in the box. */
const endsWith = ['invalid_state', 'not_found', 'done'] as const;

/** Every operation on one box. Both of a pair use the same names, so that they meet. */
export const boxOperations: Readonly<Record<string, Operation>> = {
  start: { rule: 'start', to: 'running', run: ({ box }) => box.start() },
  stop: { rule: 'stop', to: 'stopped', run: ({ box }) => box.stop() },
  remove: { rule: 'remove', to: 'gone', run: ({ box }) => box.remove({ force: true }) },
  rename: { rule: 'rename', run: ({ box, turn }) => box.rename(`b${turn}`) },
  'disk.limit': {
    rule: 'disk.limit',
    run: ({ box, turn }) => box.limitDisk({ writeBytesPerSecond: (turn + 1) * 1_000_000 }),
  },
  exec: {
    rule: 'exec',
    endsWith,
    run: async ({ box }) => {
      const { exitCode } = await box.exec(['sh', '-c', 'sleep 0.2']);
      // One whose processes were ended in order says so by its exit.
      if (exitCode !== 0 && exitCode !== null && exitCode < 128) throw new Error(`ended with ${exitCode}`);
    },
  },
  'files.write': { rule: 'copy', endsWith, run: ({ box }) => box.files.write('/root/file', 'some text') },
  metrics: { rule: 'metrics', endsWith, run: ({ box }) => box.metrics() },
  'snapshot.create': { rule: 'snapshot.create', makes: 'n', run: ({ box }) => box.snapshot.create('n') },
  'snapshot.create.memory': {
    rule: 'snapshot.create.memory',
    makes: 'n',
    run: ({ box }) => box.snapshot.create('n', { memory: true }),
  },
  'snapshot.restore': {
    rule: 'snapshot.restore',
    needs: 's',
    run: ({ box }) => box.snapshot.restore('s'),
    to: 'stopped',
  },
  'snapshot.rollback': {
    rule: 'snapshot.rollback',
    needs: 's',
    to: 'running',
    run: ({ box }) => box.snapshot.restore('s', { live: true }),
  },
  'snapshot.remove': {
    rule: 'snapshot.remove',
    needs: 's',
    takes: true,
    run: ({ box }) => box.snapshot.remove('s'),
  },
  'network.update': {
    rule: 'network.update',
    run: ({ box, turn }) => box.network.update({ allowNet: [`host${turn}.test`] }),
  },
  diff: { rule: 'diff', run: ({ box }) => box.diff() },
  clone: { rule: 'clone', makes: 'c', run: ({ box }) => box.clone('c') },
  export: {
    rule: 'export',
    run: async ({ box, directory, turn }) => {
      const path = join(directory, `${turn}.boxsnap`);
      try {
        await box.export(path);
      } finally {
        await rm(path, { force: true });
      }
    },
  },
  pause: { rule: 'pause', to: 'paused', run: ({ box }) => box.pause() },
  resume: { rule: 'resume', to: 'running', run: ({ box }) => box.resume() },
  fork: {
    rule: 'fork',
    makes: 'f',
    run: async ({ box }) => {
      const [result] = await box.fork({ count: 1, names: ['f'] });
      if (result && 'error' in result) throw result.error;
    },
  },
  'template.create': {
    rule: 'template.create',
    makes: 't',
    run: ({ runtime, box }) => runtime.templates.create({ box: box.id, name: 't' }),
  },
};
