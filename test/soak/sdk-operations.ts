import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Box, Runtime } from '../../src/api/index.js';
import type { Random } from '../control/random.js';
import type { KnownBox, World } from './world.js';

/** What an operation of a client works with. */
export interface Turn {
  readonly runtime: Runtime;
  readonly world: World;
  readonly random: Random;
  /** Name of the client. */
  readonly client: string;
  /** A number that no other turn has. */
  readonly number: number;
  /** Where archives are written. */
  readonly directory: string;
}

/** A box that a turn found, and what is known of it. */
interface Found {
  readonly box: Box;
  readonly known: KnownBox;
}

/** Few names, so that clients meet. */
export const boxNames = ['b0', 'b1', 'b2', 'b3'] as const;
const snapshotNames = ['s0', 's1'] as const;
const templateNames = ['t0', 't1'] as const;
const volumeNames = ['v0', 'v1'] as const;
export const file = (client: string): string => `/root/log-${client}`;

type Run = (turn: Turn) => Promise<unknown>;

/** Runs a task on one of the boxes, if there is one with the chosen name. */
const onBox =
  (task: (turn: Turn, found: Found) => Promise<unknown>): Run =>
  async (turn) => {
    const box = await turn.runtime.get(turn.random.pick(boxNames));
    if (box) await task(turn, { box, known: turn.world.box(box.id) });
  };

async function addLine({ world, client, number }: Turn, { box, known }: Found): Promise<void> {
  const line = `${client}-${number}`;
  const begun = known.lines.begin();
  const { exitCode } = await box.exec(['sh', '-c', `echo ${line} >> ${file(client)} && sync`]);
  if (exitCode === 0) known.lines.add(line, begun);
  // The processes of a box end when it is stopped.
  else if (exitCode !== null && exitCode < 128) world.wrong.push(`adding a line ended with ${exitCode}`);
}

/** Looks whether all lines are there that must be. */
export async function checkLines(world: World, { box, known }: Found): Promise<void> {
  const view = known.lines.view();
  const { stdout, exitCode } = await box.exec(['sh', '-c', 'touch /root/log-; cat /root/log-*']);
  if (exitCode !== 0) return;
  const missing = known.lines.missing(view, new Set(stdout.toString().split('\n')));
  for (const line of missing) world.lost.push(`line ${line} of box ${box.name}`);
}

/** What a new box has of another one's lines: those that were certain before, unless a killed machine may have them not. */
function inheritance(known: KnownBox): () => readonly string[] {
  const view = known.lines.view();
  return () => (!known.killed && known.lines.holds(view) ? view.values : []);
}

function inherit(world: World, child: Box, lines: readonly string[]): void {
  const { lines: own } = world.box(child.id);
  const begun = own.begin();
  for (const line of lines) own.add(line, begun);
}

/** Runs what makes a thing with a name, and notes that it is there. */
async function making<T>(
  { world }: Turn,
  [kind, name]: readonly ['box' | 'template' | 'volume', string],
  task: () => Promise<T>,
): Promise<T> {
  const thing = world.thing(kind, name);
  const begun = thing.begin();
  const made = await task();
  thing.add(name, begun);
  return made;
}

const nothing = (): readonly string[] => [];

const create: Run = async (turn) => {
  const name = turn.random.pick(boxNames);
  const volumes =
    turn.random.below(4) === 0 ? [{ volume: turn.random.pick(volumeNames), guestPath: '/mnt/v' }] : [];
  await making(turn, ['box', name], () =>
    turn.runtime.create({ image: 'tiny', name, volumes, detach: true }),
  );
};

const takeSnapshot = (memory: boolean): Run =>
  onBox(async ({ world, random }, { box, known }) => {
    const name = random.pick(snapshotNames);
    const lines = inheritance(known);
    const snapshot = world.snapshot(box.id, name);
    const begun = snapshot.there.begin();
    await box.snapshot.create(name, { memory });
    snapshot.there.add(name, begun);
    snapshot.lines = lines();
  });

const goBack = (live: boolean): Run =>
  onBox(async ({ world, random }, { box, known }) => {
    const name = random.pick(snapshotNames);
    const { lines } = world.snapshot(box.id, name);
    // Another one may take that name meanwhile.
    const back = () => (world.snapshot(box.id, name).lines === lines ? lines : []);
    await known.lines.undoing(() => box.snapshot.restore(name, { live }), back);
  });

const resume = onBox(async ({ random }, { box, known }) => {
  const pager = random.pick(['auto', 'mmap'] as const);
  const view = known.lines.view();
  // A memory that was lost is gone back to, with the disks of its moment.
  const back = (): readonly string[] => (known.killed ? [] : view.values);
  if (known.killed) await known.lines.undoing(() => box.resume({ pager }), back);
  else await box.resume({ pager });
});

const clone = onBox(async (turn, { box, known }) => {
  const name = turn.random.pick(boxNames);
  const lines = inheritance(known);
  const made = await making(turn, ['box', name], () => box.clone(name, { cow: turn.random.below(4) > 0 }));
  inherit(turn.world, made, lines());
});

const fork = onBox(async (turn, { box, known }) => {
  const names = [turn.random.pick(boxNames)];
  const lines = inheritance(known);
  for (const result of await box.fork({ count: 1, names })) {
    if ('error' in result) throw result.error;
    inherit(turn.world, result.box, lines());
  }
});

const exportAndImport = onBox(async (turn, { box, known }) => {
  const path = join(turn.directory, `${turn.client}-${turn.number}.boxsnap`);
  const lines = inheritance(known);
  try {
    await box.export(path);
    const held = lines();
    const name = turn.random.pick(boxNames);
    const made = await making(turn, ['box', name], () => turn.runtime.import(path, { name }));
    inherit(turn.world, made, held);
  } finally {
    await rm(path, { force: true });
  }
});

const removeBox: Run = async (turn) => {
  const name = turn.random.pick(boxNames);
  const remove = () => turn.runtime.remove(name, { force: turn.random.below(3) > 0 });
  await turn.world.thing('box', name).undoing(remove, nothing);
};

const command = onBox(async ({ random, world, client }, { box }) => {
  const execution = await box.startExec(['cat'], { stdin: true });
  const end = random.below(3);
  if (end === 0) await execution.kill();
  await execution.stdin?.write(client);
  await execution.stdin?.end();
  if (end === 1) {
    await execution.detach();
    await box.executions.list();
    return;
  }
  let text = '';
  for await (const chunk of execution.stdout) text += Buffer.from(chunk).toString();
  const { exitCode } = await execution.wait();
  if (exitCode === 0 && text !== client) world.lost.push(`output ${JSON.stringify(text)} of a command`);
});

const files = onBox(async ({ random, number, client, world }, { box }) => {
  const path = `/root/file-${client}`;
  const bytes = Buffer.alloc(random.below(200_000) + 1, number & 255);
  await box.files.write(path, bytes);
  const read = await box.files.read(path);
  // Between the two the box may have gone back to another moment, where the file is an older one.
  if (read.length > 0 && read.some((byte) => byte !== read[0])) world.lost.push(`bytes of ${path}`);
  await box.files.stat(path);
  await box.files.list('/root');
});

const lists: Run = async ({ runtime, world }) => {
  const look = (kind: 'box' | 'template' | 'volume', names: readonly string[]) =>
    names.map((name) => ({ kind, name, view: world.thing(kind, name).view() }));
  const expected = [
    ...look('box', boxNames),
    ...look('template', templateNames),
    ...look('volume', volumeNames),
  ];
  const found = {
    box: (await runtime.list()).map(({ name }) => name),
    template: (await runtime.templates.list()).map(({ name }) => name),
    volume: (await runtime.volumes.list()).map(({ name }) => name),
  };
  for (const { kind, name, view } of expected) {
    const seen = new Set(found[kind].flatMap((it) => it ?? []));
    for (const missing of world.thing(kind, name).missing(view, seen)) world.lost.push(`${kind} ${missing}`);
  }
};

const snapshots = onBox(async ({ world }, { box }) => {
  const expected = snapshotNames.map((name) => ({ name, view: world.snapshot(box.id, name).there.view() }));
  const seen = new Set((await box.snapshot.list()).map(({ name }) => name));
  for (const { name, view } of expected) {
    const { there } = world.snapshot(box.id, name);
    for (const missing of there.missing(view, seen)) world.lost.push(`snapshot ${missing} of ${box.name}`);
  }
});

/** Every operation of a client of the package: how often it is chosen beside the others, and what it does. */
export const sdkOperations: Readonly<Record<string, readonly [weight: number, run: Run]>> = {
  create: [6, create],
  remove: [2, removeBox],
  start: [2, onBox((_, { box }) => box.start())],
  'start.discardMemory': [1, onBox((_, { box }) => box.start({ discardMemory: true }))],
  stop: [2, onBox((_, { box }) => box.stop({ timeoutMs: 3000 }))],
  pause: [3, onBox((_, { box }) => box.pause())],
  resume: [3, resume],
  exec: [8, onBox(addLine)],
  check: [4, onBox((turn, found) => checkLines(turn.world, found))],
  startExec: [3, command],
  files: [3, files],
  dial: [1, onBox(async (_, { box }) => await (await box.dial(1)).close())],
  'snapshot.create': [2, takeSnapshot(false)],
  'snapshot.create.memory': [2, takeSnapshot(true)],
  'snapshot.restore': [1, goBack(false)],
  'snapshot.rollback': [2, goBack(true)],
  'snapshot.remove': [
    1,
    onBox(async ({ random, world }, { box }) => {
      const name = random.pick(snapshotNames);
      await world.snapshot(box.id, name).there.undoing(() => box.snapshot.remove(name), nothing);
    }),
  ],
  'snapshot.list': [2, snapshots],
  clone: [1, clone],
  fork: [2, fork],
  'export and import': [1, exportAndImport],
  'template.create': [
    1,
    onBox(async (turn, { box }) => {
      const name = turn.random.pick(templateNames);
      const make = () => turn.runtime.templates.create({ box: box.id, name });
      await making(turn, ['template', name], make);
    }),
  ],
  'create from template': [
    1,
    async (turn) => {
      const [name, template] = [turn.random.pick(boxNames), turn.random.pick(templateNames)];
      await making(turn, ['box', name], () => turn.runtime.create({ template, name, detach: true }));
    },
  ],
  'template.remove': [
    1,
    async ({ random, runtime, world }) => {
      const name = random.pick(templateNames);
      await world.thing('template', name).undoing(() => runtime.templates.remove(name), nothing);
    },
  ],
  'volume.create': [
    1,
    async (turn) => {
      const name = turn.random.pick(volumeNames);
      await making(turn, ['volume', name], () => turn.runtime.volumes.create({ name, sizeGb: 1 }));
    },
  ],
  'volume.remove': [
    1,
    async ({ random, runtime, world }) => {
      const name = random.pick(volumeNames);
      await world.thing('volume', name).undoing(() => runtime.volumes.remove(name), nothing);
    },
  ],
  lists: [3, lists],
  info: [1, onBox((_, { box }) => box.info())],
  metrics: [1, onBox((_, { box }) => box.metrics())],
  metricsSeries: [1, onBox((_, { box }) => box.metricsSeries())],
  console: [1, onBox((_, { box }) => box.consoleLog())],
  'runtime.metrics': [1, ({ runtime }) => runtime.metrics()],
  images: [1, ({ runtime }) => runtime.images.list()],
  gc: [1, ({ runtime }) => runtime.gc()],
  verify: [1, ({ runtime }) => runtime.verify()],
};
