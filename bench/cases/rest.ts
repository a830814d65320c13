/** Calls over TCP to a server in a process of its own: issue "The REST server and the remote runtime", Speed. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Box, Runtime } from '../../src/api/index.js';
import type { BenchCase, NamedCase } from '../harness.js';
import { onBothSides } from '../support/both-sides.js';
import { load, p99 } from '../support/load.js';
import { endProgram, forkProgram } from '../support/server-process.js';
import { timed } from './runtime.js';

/** Image of all cases: busybox and nothing else. */
const image = 'tiny';

const exec: BenchCase = {
  name: 'rest-exec',
  unit: 'ms',
  rounds: 200,
  maxRatio: 1.6,
  setup: () =>
    onBothSides(async ({ remote, embedded }) => {
      const [far, near] = await Promise.all([remote.create({ image }), embedded.create({ image })]);
      for (let i = 0; i < 20; i += 1) {
        await far.exec(['true']);
        await near.exec(['true']);
      }
      return {
        measure: () => timed(() => far.exec(['true'])),
        baseline: () => timed(() => near.exec(['true'])),
      };
    }),
};

/** Makes stopped boxes; a few at a time, since requests of one key are limited. */
async function makeStopped(runtime: Runtime, count: number): Promise<void> {
  const first = await runtime.create({ image, name: 'first' });
  await first.stop();
  await first.snapshot.create('s');
  const atOnce = 20;
  for (let made = 1; made < count; made += atOnce) {
    const batch = Array.from({ length: Math.min(atOnce, count - made) }, (_, i) =>
      first.clone(`clone-${made + i}`, { fromSnapshot: 's' }),
    );
    await Promise.all(batch);
  }
}

const list: BenchCase = {
  name: 'rest-list-1000',
  unit: 'ms',
  rounds: 30,
  maxValue: 10,
  setup: () =>
    onBothSides(async ({ remote, embedded }) => {
      await makeStopped(remote, 1000);
      await makeStopped(embedded, 1000);
      const listAll = async (runtime: Runtime): Promise<void> => {
        const { length } = await runtime.list();
        if (length !== 1000) throw new Error(`expected 1000 boxes, got ${length}`);
      };
      for (let i = 0; i < 10; i += 1) {
        await listAll(remote);
        await listAll(embedded);
      }
      return { measure: () => timed(() => listAll(remote)), baseline: () => timed(() => listAll(embedded)) };
    }),
};

/** One in a hundred of a round's calls may take longer than its figure. */
const callsPerRound = 300;
/** Below what one key may ask for in a second. */
const betweenCallsMs = 5;

async function getP99(box: Box): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < callsPerRound; i += 1) {
    await delay(betweenCallsMs);
    times.push(await timed(() => box.info()));
  }
  return p99(times);
}

const get: BenchCase = {
  name: 'rest-get-p99',
  unit: 'ms',
  rounds: 5,
  maxValue: 3,
  setup: () =>
    onBothSides(async ({ remote, server }) => {
      const box = await remote.create({ image });
      const { url, apiKey } = server.address;
      let reader = forkProgram('reader-main.ts', [url, apiKey, box.id, '4']);
      await once(reader, 'message');
      await getP99(box);
      return {
        measure: () => getP99(box),
        // The same call while nothing streams.
        baseline: async () => {
          await endProgram(reader);
          const quiet = await getP99(box);
          reader = forkProgram('reader-main.ts', [url, apiKey, box.id, '4']);
          await once(reader, 'message');
          return quiet;
        },
        end: () => endProgram(reader),
      };
    }),
};

/** Twenty calls that take turns; each is one request. */
function mixedCalls(runtime: Runtime, box: Box, stopped: Box): ((turn: number) => Promise<unknown>)[] {
  const info = () => box.info();
  const run = () => box.exec(['true']);
  const write = (turn: number) => box.files.write(`/root/file-${turn % 10}`, Buffer.alloc(1024, turn));
  const read = () => box.files.read('/etc/passwd');
  let last: Promise<unknown> = Promise.resolve();
  const snapshotOrNot = (turn: number) => {
    const cycle = Math.floor(turn / 20);
    const act = (): Promise<unknown> =>
      cycle % 2 === 0 ? stopped.snapshot.create(`s${cycle}`) : stopped.snapshot.remove(`s${cycle - 1}`);
    // One must be there before it can be removed, however far the server is behind.
    last = last.then(act, act);
    return last;
  };
  const all = () => runtime.list();
  return [
    ...[info, run, info, write, info, all, info, run, info, read],
    ...[info, run, () => box.metrics(), write, info, () => box.files.stat('/etc'), info, run, all],
    snapshotOrNot,
  ];
}

const warmSeconds = 15;
const seconds = 60;
const perSecond = 200;

const mixed: BenchCase = {
  name: 'rest-mixed',
  unit: 'MiB of heap after 60 s of 200 requests a second',
  rounds: 1,
  maxRatio: 1.2,
  setup: () =>
    onBothSides(async ({ remote, server }) => {
      await makeStopped(remote, 10);
      const box = await remote.create({ image });
      const stopped = await remote.get('first');
      if (!stopped) throw new Error('the first box is gone');
      const calls = mixedCalls(remote, box, stopped);
      let made = 0;
      const call = () => {
        const turn = made++;
        return calls[turn % calls.length]?.(turn) ?? Promise.resolve();
      };
      await load({ perSecond, seconds: warmSeconds }, call);
      const before = await server.usage();
      return {
        measure: async () => {
          const { failures, perSecond: held, p99: slowest } = await load({ perSecond, seconds }, call);
          const after = await server.usage();
          const cpu = (after.cpuMs - before.cpuMs) / (seconds * 10);
          const facts = [
            `${held.toFixed(1)} calls a second, p99 ${slowest.toFixed(1)} ms`,
            `server ${cpu.toFixed(0)} % of a core, heap ${after.heapMiB.toFixed(1)} MiB`,
            `${failures.length} failed ${failures[0] ?? ''}`,
          ];
          process.stderr.write(`rest-mixed: ${facts.join(', ')}\n`);
          // A call that fails, or a rate that is not held, breaks the promise whatever the heap is.
          return failures.length > 0 || held < perSecond * 0.98 ? Number.POSITIVE_INFINITY : after.heapMiB;
        },
        baseline: async () => before.heapMiB,
      };
    }),
};

/** Calls over TCP. */
export const restCases: readonly NamedCase[] = [
  { bench: exec, baseline: 'the embedded SDK' },
  { bench: list, baseline: 'the embedded SDK' },
  { bench: get, baseline: 'while nothing streams' },
  { bench: mixed, baseline: 'after 15 s of the same' },
];
