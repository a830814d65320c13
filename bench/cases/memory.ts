/** Boxes that are frozen, branched and rewound: issue "Memory", Speed. */
import { join } from 'node:path';
import type { Box, Runtime } from '../../src/api/index.js';
import type { AgentClient } from '../../src/guest/index.js';
import type { BenchCase, NamedCase } from '../harness.js';
import { BareMachine } from '../support/bare-machine.js';
import { privateGuestBytes } from '../support/dirty-memory.js';
import { timed, withEngine } from './runtime.js';

const image = 'tiny';
const memoryMiB = 256;
/** Dirty memory of the cases about pauses. */
const dirtyMiB = 16;
export const dirtyLine = `dd if=/dev/urandom of=/dev/shm/dirty bs=1M count=${dirtyMiB} conv=notrunc`;

export async function dirty(box: Box): Promise<void> {
  const { exitCode, stderr } = await box.exec(['sh', '-c', `mkdir -p /dev/shm; ${dirtyLine}`]);
  if (exitCode !== 0) throw new Error(`cannot fill memory: ${stderr}`);
}

let executions = 0;

export async function bareRun(agent: AgentClient, line: string): Promise<void> {
  executions += 1;
  const execution = await agent.executions.start({
    id: `bare-${executions}`,
    argv: ['/bin/sh', '-c', line],
    env: { PATH: '/bin' },
  });
  execution.stdout.resume();
  execution.stderr?.resume();
  await execution.exit;
}

/** A bare machine of the same shape, with the same in its memory. */
async function bareTwin(home: string): Promise<{ machine: BareMachine; agent: AgentClient }> {
  const machine = new BareMachine(home, memoryMiB);
  const agent = await machine.restoreBox(image);
  await bareRun(agent, `mkdir -p /dev/shm; ${dirtyLine}`);
  return { machine, agent };
}

export async function dirtyBox(runtime: Runtime): Promise<Box> {
  const box = await runtime.create({ image, memoryMiB });
  await dirty(box);
  return box;
}

const pause: BenchCase = {
  name: 'pause',
  unit: 'ms',
  rounds: 9,
  maxRatio: 0.4,
  setup: () =>
    withEngine(0, async (_engine, runtime, home) => {
      const box = await dirtyBox(runtime);
      const twin = await bareTwin(home);
      return {
        measure: async () => {
          await box.resume();
          await dirty(box);
          return await timed(() => box.pause());
        },
        baseline: async () => {
          await bareRun(twin.agent, dirtyLine);
          const ms = await timed(() => twin.machine.saveTo(join(home, 'saved')));
          await twin.machine.goOn();
          return ms;
        },
        end: () => twin.machine.end(),
      };
    }),
};

/** Resume to the end of a first command, next to QEMU loading all of the same machine. */
function resumeCase(name: string, maxRatio: number, act: (box: Box) => Promise<void>): BenchCase {
  return {
    name,
    unit: 'ms',
    rounds: 9,
    maxRatio,
    setup: () =>
      withEngine(1, async (_engine, runtime, home) => {
        const box = await dirtyBox(runtime);
        await box.snapshot.create('point', { memory: true });
        const twin = await bareTwin(home);
        await twin.machine.saveTo(join(home, 'saved'));
        return {
          measure: async () => {
            if (name === 'resume') await box.pause();
            return await timed(async () => {
              await act(box);
              await box.exec(['true']);
            });
          },
          baseline: async () => {
            const bare = new BareMachine(home, memoryMiB);
            const ms = await timed(async () => {
              await bareRun(await bare.restoreFrom(join(home, 'saved'), twin.machine), 'true');
            });
            await bare.end();
            return ms;
          },
          end: () => twin.machine.end(),
        };
      }),
  };
}

const children = 10;

const forkPause: BenchCase = {
  name: 'fork-parent-stopped',
  unit: 'ms',
  rounds: 5,
  maxValue: 60,
  setup: () =>
    withEngine(1, async (_engine, runtime) => {
      const box = await dirtyBox(runtime);
      let round = 0;
      return {
        measure: async () => {
          await dirty(box);
          round += 1;
          const { guestPauseMs } = await box.snapshot.create(`s${round}`, { memory: true });
          return guestPauseMs;
        },
      };
    }),
};

async function forkAll(box: Box): Promise<Box[]> {
  const results = await box.fork({ count: children });
  return results.map((result) => {
    if ('error' in result) throw result.error;
    return result.box;
  });
}

const fork: BenchCase = {
  name: 'fork',
  unit: `ms, ${children} children`,
  rounds: 5,
  maxRatio: 1.2,
  setup: () =>
    withEngine(0, async (_engine, runtime) => {
      const box = await dirtyBox(runtime);
      const remove = async (boxes: readonly Box[]): Promise<void> => {
        for (const child of boxes) await child.remove({ force: true });
      };
      return {
        measure: async () => {
          let boxes: Box[] = [];
          const ms = await timed(async () => {
            boxes = await forkAll(box);
          });
          await remove(boxes);
          return ms;
        },
        baseline: async () => {
          const boxes: Box[] = [];
          const ms = await timed(async () => {
            for (let i = 0; i < children; i += 1) boxes.push(await runtime.create({ image, memoryMiB }));
          });
          await remove(boxes);
          return ms;
        },
      };
    }),
};

const density: BenchCase = {
  name: 'density',
  unit: 'MiB of its own, each of 20 idle forks',
  rounds: 1,
  maxValue: 4,
  setup: () =>
    withEngine(0, async (_engine, runtime) => {
      const box = await runtime.create({ image, memoryMiB });
      return {
        measure: async () => {
          const boxes = [...(await forkAll(box)), ...(await forkAll(box))];
          const bytes = await Promise.all(
            boxes.map(async (child) => privateGuestBytes((await child.info()).pid ?? 0)),
          );
          return bytes.reduce((sum, own) => sum + own, 0) / boxes.length / 1024 ** 2;
        },
      };
    }),
};

/** How long each of 20 rounds of work, pause, resume and a command took on a new box. */
async function twentyRounds(runtime: Runtime): Promise<number[]> {
  const box = await dirtyBox(runtime);
  const took: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    await box.exec(['sh', '-c', 'dd if=/dev/urandom of=/dev/shm/work bs=1M count=2']);
    took.push(
      await timed(async () => {
        await box.pause();
        await box.resume();
        await box.exec(['true']);
      }),
    );
  }
  await box.remove({ force: true });
  return took;
}

const rounds: BenchCase = {
  name: 'pause-resume-rounds',
  unit: 'ms of the last of 20 rounds',
  rounds: 5,
  maxRatio: 1.3,
  setup: () =>
    withEngine(1, async (_engine, runtime) => {
      let took: number[] = [];
      return {
        measure: async () => {
          took = await twentyRounds(runtime);
          return took.at(-1) ?? Number.NaN;
        },
        baseline: async () => took[1] ?? Number.NaN,
      };
    }),
};

const wholeState = 'bare qemu -incoming of the whole state, first command';

/** All cases of this file. */
export const memoryCases: readonly NamedCase[] = [
  { bench: pause, baseline: 'bare qemu migrate to a file' },
  {
    bench: resumeCase('resume', 0.65, async (box) => {
      await box.resume({ pager: 'mmap' });
    }),
    baseline: wholeState,
  },
  {
    bench: resumeCase('rollback', 0.78, (box) => box.snapshot.restore('point', { live: true })),
    baseline: wholeState,
  },
  { bench: forkPause, baseline: '' },
  { bench: fork, baseline: `${children} boxes created one after the other` },
  { bench: density, baseline: '' },
  { bench: rounds, baseline: 'the second of them' },
];
