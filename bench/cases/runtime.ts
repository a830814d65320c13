/** Boxes that start and run commands: issue "A box runs", Speed. */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import type { AgentClient } from '../../src/guest/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { createServer } from '../../src/server/index.js';
import { newHome } from '../../test/support/home.js';
import type { BenchCase, BenchRun, NamedCase } from '../harness.js';
import { BareMachine } from '../support/bare-machine.js';
import { privateGuestBytes } from '../support/dirty-memory.js';

/** Image of all cases: busybox and nothing else. */
const image = 'tiny';
/** Time a pool gets to fill again between rounds. */
const refillMs = 400;

/** Milliseconds that a task takes. */
export async function timed(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await task();
  return performance.now() - started;
}

/** An engine over a home of its own, and what ends it. */
export async function withEngine(
  poolSize: number,
  make: (
    engine: Engine,
    runtime: Runtime,
    home: string,
  ) => Promise<Omit<BenchRun, 'teardown'> & { end?(): Promise<void> }>,
  hotSize = 0,
): Promise<BenchRun> {
  const home = await newHome();
  const engine = await Engine.open({ home: home.path, poolSize, hotSize });
  const runtime = engine.runtime();
  const run = await make(engine, runtime, home.path);
  const teardown = async (): Promise<void> => {
    await run.end?.();
    for (const box of await runtime.list()) await runtime.remove(box.id, { force: true });
    await engine.close();
    await home[Symbol.asyncDispose]();
  };
  return { measure: run.measure, baseline: run.baseline, teardown };
}

/** Everything of a create up to the agent's answer; what follows is the mount of the box's disk. */
async function createToAgent(runtime: Runtime): Promise<number> {
  const started = performance.now();
  const box = await runtime.create({ image });
  const total = performance.now() - started;
  const { stages } = await box.info();
  await box.remove({ force: true });
  return total - (stages.configure ?? 0);
}

function restoreCase(name: string, poolSize: number, maxRatio: number): BenchCase {
  return {
    name,
    unit: 'ms',
    rounds: 15,
    maxRatio,
    setup: () =>
      withEngine(poolSize, async (_engine, runtime, home) => {
        await createToAgent(runtime);
        return {
          measure: async () => {
            await delay(refillMs);
            return await createToAgent(runtime);
          },
          baseline: async () => {
            const bare = new BareMachine(home);
            const ms = await timed(() => bare.restore());
            await bare.end();
            return ms;
          },
        };
      }),
  };
}

/** Waits until the pool is full again. */
async function untilReady(runtime: Runtime, hotSize: number): Promise<void> {
  await delay(refillMs);
  while ((await runtime.metrics()).hotMachines < hotSize) await delay(refillMs / 10);
}

/** Create to the first command's output; with a machine that waits, or with a hot one. */
function createExecCase(name: string, hotSize: number, maxRatio: number): BenchCase {
  return {
    name,
    unit: 'ms',
    rounds: 9,
    maxRatio,
    setup: () =>
      withEngine(
        1,
        async (_engine, runtime, home) => {
          let ran = 0;
          const createAndRun = async (): Promise<void> => {
            await using box = await runtime.create({ image });
            await box.exec(['echo', 'first']);
            ran = performance.now();
          };
          await createAndRun();
          return {
            measure: async () => {
              await untilReady(runtime, hotSize);
              const started = performance.now();
              await createAndRun();
              return ran - started;
            },
            baseline: async () => {
              await untilReady(runtime, hotSize);
              const bare = new BareMachine(home);
              const ms = await timed(() => bare.bootAndRun(image, ['echo', 'first']));
              await bare.end();
              return ms;
            },
          };
        },
        hotSize,
      ),
  };
}

/** Round trip of `true` in a box that has run it before, next to one over a bare connection to the same agent. */
function execCase(
  name: string,
  maxRatio: number,
  connect: (engine: Engine, home: string) => Promise<{ runtime: Runtime; end(): Promise<void> }>,
): BenchCase {
  return {
    name,
    unit: 'ms',
    rounds: 200,
    maxRatio,
    setup: () =>
      withEngine(0, async (engine, _runtime, home) => {
        const { runtime, end } = await connect(engine, home);
        const box = await runtime.create({ image, detach: true });
        const bare = new BareMachine(home);
        const agent = await bare.restoreBox(image);
        for (let i = 0; i < 20; i += 1) {
          await box.exec(['true']);
          await roundTrip(agent, `warm-${i}`);
        }
        let round = 0;
        return {
          measure: () => timed(() => box.exec(['true'])),
          baseline: () => timed(() => roundTrip(agent, `round-${round++}`)),
          end: async () => {
            await bare.end();
            await end();
          },
        };
      }),
  };
}

async function roundTrip(agent: AgentClient, id: string): Promise<void> {
  const execution = await agent.executions.start({ id, argv: ['/bin/true'], env: { PATH: '/bin' } });
  execution.stdout.resume();
  execution.stderr?.resume();
  await execution.exit;
}

const overSdk = async (engine: Engine): Promise<{ runtime: Runtime; end(): Promise<void> }> => ({
  runtime: engine.runtime(),
  end: async () => undefined,
});

async function overSocket(engine: Engine, home: string): Promise<{ runtime: Runtime; end(): Promise<void> }> {
  const server = createServer({ runtimeFor: (tenant) => engine.runtime(tenant), authenticator: null });
  const socketPath = `${home}/bench.sock`;
  await server.listen({ socketPath });
  const runtime = connectRuntime({ socketPath });
  return {
    runtime,
    end: async () => {
      await runtime.close();
      await server.close();
    },
  };
}

/** Ticks of a second in `/proc/pid/stat` (sysconf(_SC_CLK_TCK), 100 on Linux). */
const ticksPerSecond = 100;

/** Processor time of this process, the engine's, in milliseconds (proc(5), `/proc/pid/stat`, fields 14 and 15). */
async function ownCpuMs(): Promise<number> {
  const stat = await readFile('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

const idle: BenchCase = {
  name: 'idle-engine-cpu',
  unit: '% of a core, 10 idle boxes',
  rounds: 3,
  maxValue: 1,
  setup: () =>
    withEngine(0, async (_engine, runtime) => {
      const boxes: Box[] = [];
      for (let i = 0; i < 10; i += 1) boxes.push(await runtime.create({ image, memoryMiB: 512 }));
      const windowMs = 5_000;
      await delay(windowMs);
      return {
        measure: async () => {
          const before = await ownCpuMs();
          await delay(windowMs);
          return ((await ownCpuMs()) - before) / (windowMs / 100);
        },
      };
    }),
};

const dirty: BenchCase = {
  name: 'first-exec-dirty-memory',
  unit: 'MiB',
  rounds: 5,
  maxValue: 2,
  setup: () =>
    withEngine(0, async (_engine, runtime) => ({
      measure: async () => {
        await using box = await runtime.create({ image });
        await box.exec(['true']);
        const { pid } = await box.info();
        return (await privateGuestBytes(pid ?? 0)) / 1024 ** 2;
      },
    })),
};

/** All cases of this file. */
export const runtimeCases: readonly NamedCase[] = [
  { bench: restoreCase('restore', 1, 1.3), baseline: 'bare qemu -incoming to the agent' },
  { bench: restoreCase('restore-without-pool', 0, 1.6), baseline: 'bare qemu -incoming to the agent' },
  {
    bench: createExecCase('create-exec', 0, 0.12),
    baseline: 'cold boot of kernel and agent, mount, exec',
  },
  {
    bench: createExecCase('create-exec-hot', 1, 0.06),
    baseline: 'cold boot of kernel and agent, mount, exec',
  },
  { bench: execCase('exec', 1.5, overSdk), baseline: 'bare agent round trip' },
  { bench: execCase('exec-engine-socket', 2.5, overSocket), baseline: 'bare agent round trip' },
  { bench: idle, baseline: '' },
  { bench: dirty, baseline: '' },
];
