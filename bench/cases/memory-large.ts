/** Large guests and lazy resumes: issue "Memory", Speed. */
import { join } from 'node:path';
import type { Box, Pager, Runtime } from '../../src/api/index.js';
import { readPageServerLog } from '../../src/memory/index.js';
import type { BenchCase, NamedCase } from '../harness.js';
import { BareMachine } from '../support/bare-machine.js';
import { UnprivilegedUffd } from '../support/uffd.js';
import { bareRun, dirty, dirtyBox, dirtyLine } from './memory.js';
import { timed, withEngine } from './runtime.js';

const image = 'tiny';
const largeMiB = 2048;
const filledMiB = 1536;
/** One random MiB, again and again: quick to make, and no page of it is zero. */
const fillLine = [
  'mkdir -p /dev/shm /fill',
  `mount -t tmpfs -o size=${filledMiB + 64}m none /fill`,
  'dd if=/dev/urandom of=/fill/0 bs=1M count=1',
  `i=1; while [ $i -lt ${filledMiB} ]; do cp /fill/0 /fill/$i; i=$((i+1)); done`,
  dirtyLine,
].join(' && ');

/** A box of 2 GiB of which 1.5 GiB are filled, paused and resumed once since. */
async function largeBox(runtime: Runtime): Promise<Box> {
  const box = await runtime.create({ image, memoryMiB: largeMiB });
  const { exitCode, stderr } = await box.exec(['sh', '-c', fillLine], { timeoutMs: 120_000 });
  if (exitCode !== 0) throw new Error(`cannot fill memory: ${stderr}`);
  await box.pause();
  await box.resume({ pager: 'mmap' });
  return box;
}

async function largeTwin(home: string): Promise<{ machine: BareMachine; line(text: string): Promise<void> }> {
  const machine = new BareMachine(home, largeMiB);
  const agent = await machine.restoreBox(image);
  await bareRun(agent, fillLine);
  return { machine, line: (text) => bareRun(agent, text) };
}

const pauseLarge: BenchCase = {
  name: 'pause-2g',
  unit: 'ms',
  rounds: 5,
  maxRatio: 0.03,
  setup: () =>
    withEngine(0, async (_engine, runtime, home) => {
      const box = await largeBox(runtime);
      const twin = await largeTwin(home);
      return {
        measure: async () => {
          await box.resume({ pager: 'mmap' });
          await dirty(box);
          return await timed(() => box.pause());
        },
        baseline: async () => {
          await twin.line(dirtyLine);
          const ms = await timed(() => twin.machine.saveTo(join(home, 'saved')));
          await twin.machine.goOn();
          return ms;
        },
        end: () => twin.machine.end(),
      };
    }),
};

/** Resume, with a pager, to the end of a first command. */
async function resumed(box: Box, pager: Pager): Promise<number> {
  await box.pause();
  return await timed(async () => {
    await box.resume({ pager });
    await box.exec(['true']);
  });
}

const resumeLarge: BenchCase = {
  name: 'resume-2g',
  unit: 'ms',
  rounds: 5,
  maxRatio: 0.1,
  setup: () =>
    withEngine(1, async (_engine, runtime, home) => {
      const box = await largeBox(runtime);
      const twin = await largeTwin(home);
      await twin.machine.saveTo(join(home, 'saved'));
      return {
        measure: () => resumed(box, 'mmap'),
        baseline: async () => {
          const bare = new BareMachine(home, largeMiB);
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

const resumeLargeOverSmall: BenchCase = {
  name: 'resume-2g-over-256m',
  unit: 'ms',
  rounds: 9,
  maxRatio: 1.2,
  setup: () =>
    withEngine(1, async (_engine, runtime) => {
      const large = await largeBox(runtime);
      const small = await dirtyBox(runtime);
      return { measure: () => resumed(large, 'mmap'), baseline: () => resumed(small, 'mmap') };
    }),
};

const servedCold: BenchCase = {
  name: 'resume-uffd-served',
  unit: 'MiB before the first command ends, of 256',
  rounds: 5,
  maxValue: 0.05 * 256,
  setup: () =>
    withEngine(1, async (_engine, runtime, home) => {
      const permitted = await UnprivilegedUffd.permit();
      return {
        measure: async () => {
          // A new box each time: its memory has no working set yet.
          const box = await dirtyBox(runtime);
          await resumed(box, 'uffd');
          const bytes = await servedBytes(join(home, 'boxes', box.id, 'pager.log'));
          await box.remove({ force: true });
          return bytes / 1024 ** 2;
        },
        end: () => permitted.restore(),
      };
    }),
};

/** What a page server had sent when it was told that the first command has ended. */
async function servedBytes(logPath: string): Promise<number> {
  for (;;) {
    for (const said of await readPageServerLog(logPath)) {
      if (said.event === 'recorded') return said.stats.sentBytes;
      if (said.event === 'failed') throw new Error(said.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const resumeLazily: BenchCase = {
  name: 'resume-uffd',
  unit: 'ms, with a working set',
  rounds: 9,
  maxRatio: 1.3,
  setup: () =>
    withEngine(1, async (_engine, runtime) => {
      const permitted = await UnprivilegedUffd.permit();
      const [lazy, mapped] = [await dirtyBox(runtime), await dirtyBox(runtime)];
      // The first lazy resume records the working set that later ones are sent first.
      await resumed(lazy, 'uffd');
      return {
        measure: () => resumed(lazy, 'uffd'),
        baseline: () => resumed(mapped, 'mmap'),
        end: () => permitted.restore(),
      };
    }),
};

const largeState = 'bare qemu -incoming of the whole state, first command';

/** All cases of this file. */
export const largeMemoryCases: readonly NamedCase[] = [
  { bench: pauseLarge, baseline: 'bare qemu migrate to a file' },
  { bench: resumeLarge, baseline: largeState },
  { bench: resumeLargeOverSmall, baseline: 'the same of 256 MiB' },
  { bench: servedCold, baseline: '' },
  { bench: resumeLazily, baseline: 'the pager mmap' },
];
