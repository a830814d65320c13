// One engine in a process of its own, which a test kills: node driver.mjs '{"home", "act", "kill", "trace"}'.
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
  open: async () => undefined,
};

const plan = { kill, trace };
if (act === 'open') planFaults(plan);
const engine = await Engine.open({ home, poolSize: 0 });
if (act !== 'open') planFaults(plan);
await acts[act](engine.runtime());
planFaults(undefined);
await engine.close();
