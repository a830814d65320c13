// One engine in a process of its own, which a test kills: node driver.mjs '{"home", "act", "kill", "trace"}'.
import { setTimeout as delay } from 'node:timers/promises';
import { planFaults } from '../../dist/base/faults.js';
import { Engine } from '../../dist/engine/index.js';

const { home, act, kill, trace } = JSON.parse(process.argv[2]);
const box = async (runtime) => await runtime.get('b');

/** What is done between the first fault point and the last. */
const acts = {
  snapshot: async (runtime) => await (await box(runtime)).snapshot.create('new'),
  restore: async (runtime) => await (await box(runtime)).snapshot.restore('s1'),
  'snapshot-remove': async (runtime) => await (await box(runtime)).snapshot.remove('s1'),
  clone: async (runtime) => await (await box(runtime)).clone('c'),
  'clone-snapshot': async (runtime) => await (await box(runtime)).clone('c', { fromSnapshot: 's1' }),
  'clone-full': async (runtime) => await (await box(runtime)).clone('c', { fromSnapshot: 's1', cow: false }),
  export: async (runtime) => await (await box(runtime)).export(`${home}/out/e.boxsnap`),
  import: async (runtime) => await runtime.import(`${home}/out/given.boxsnap`, { name: 'i' }),
  gc: async (runtime) => await runtime.gc(),
  remove: async (runtime) => await (await box(runtime)).remove(),
  create: async (runtime) => await runtime.create({ image: 'tiny', name: 'n', detach: true }),
  pause: async (runtime) => await (await box(runtime)).pause(),
  resume: async (runtime) => await (await box(runtime)).resume(),
  'memory-snapshot': async (runtime) => await (await box(runtime)).snapshot.create('new', { memory: true }),
  rollback: async (runtime) => await (await box(runtime)).snapshot.restore('point', { live: true }),
  fork: async (runtime) => await (await box(runtime)).fork({ count: 2 }),
  template: async (runtime) => await runtime.templates.create({ box: 'b', name: 't' }),
  'export-memory': async (runtime) =>
    await (await box(runtime)).export(`${home}/out/e.boxsnap`, { memory: true }),
  'import-memory': async (runtime) =>
    await runtime.import(`${home}/out/given.boxsnap`, { name: 'i', memory: true }),
  'volume-create': async (runtime) => await runtime.volumes.create({ name: 'new', sizeGb: 1 }),
  'volume-remove': async (runtime) => await runtime.volumes.remove('given'),
  // On an undecided box.
  'start-newest': async (runtime) => await (await box(runtime)).start({ discardMemory: true }),
  // The machine is killed; what the engine does then is between the fault points.
  lose: async (runtime) => {
    planFaults(undefined);
    const lost = await box(runtime);
    await lost.resume({ pager: 'uffd' });
    await lost.exec(['sh', '-c', 'echo newest > /root/newest; sync']);
    const { pid } = await lost.info();
    const events = runtime.events();
    planFaults(plan);
    process.kill(pid, 'SIGKILL');
    // Nothing that is waited for keeps a process alive by itself.
    const alive = setInterval(() => undefined, 1000);
    for await (const event of events) if (event.id === lost.id && event.change === 'paused') break;
    clearInterval(alive);
  },
  // A box; the machine that is made hot when it is up; and the box that this one is handed to.
  hot: async (runtime) => {
    await runtime.create({ image: 'tiny', name: 'first', detach: true });
    while ((await runtime.metrics()).hotMachines === 0) await delay(20);
    await runtime.create({ image: 'tiny', name: 'second', detach: true });
  },
  open: async () => undefined,
};

const plan = { kill, trace };
if (act === 'open') planFaults(plan);
const engine = await Engine.open({ home, poolSize: act === 'hot' ? 1 : 0, hotSize: 1 });
if (act !== 'open') planFaults(plan);
await acts[act](engine.runtime());
planFaults(undefined);
await engine.close();
