import type { SnapshotInfo } from '../../api/index.js';
import { createCommand, createGroup } from '../command.js';
import { printListing, printOne } from '../listing.js';
import { formatAge, formatBytes, formatDuration } from '../output/units.js';
import { flag, format, required, several, value } from '../specs.js';
import { forEachTarget, found, requireBox } from '../targets.js';
import { parseDurationMs } from '../values.js';

const box = required('box', 'name or id');
const name = required('snapshot', 'name of the snapshot');

const create = createCommand({
  name: 'create',
  summary: 'take a snapshot of a box',
  args: { box, name },
  options: {
    memory: flag('--memory', 'take the memory of a running or paused box too'),
    quiesce: flag('--no-quiesce', 'do not freeze the file systems meanwhile'),
    quiesceTimeout: value(
      '--quiesce-timeout <duration>',
      'time for the freeze (default: 30s)',
      parseDurationMs,
    ),
    stopOnFail: flag('--no-stop', 'fail, and do not stop the box, when the freeze fails'),
    format,
  },
  async handler(context, args, options) {
    const { snapshot } = await requireBox(context, args.box);
    const result = await snapshot.create(args.name, {
      memory: options.memory,
      quiesce: options.quiesce,
      quiesceTimeoutMs: options.quiesceTimeout,
      stopOnQuiesceFail: options.stopOnFail,
      signal: context.signal,
    });
    await printOne(context, options.format, result, (it) => ({
      ...snapshotFacts(it),
      'box stood still': formatDuration(it.guestPauseMs),
    }));
  },
});

const list = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'list the snapshots of a box',
  args: { box },
  options: { quiet: flag('-q, --quiet', 'print names only'), format },
  async handler(context, args, { quiet, format }) {
    const { snapshot } = await requireBox(context, args.box);
    const all = await snapshot.list({ signal: context.signal });
    if (!quiet) await printListing(context, format, all, snapshotColumns);
    else for (const each of all) await context.stdout.line(each.name);
  },
});

const snapshotColumns = [
  { header: 'NAME', cell: (it: SnapshotInfo) => it.name },
  { header: 'SIZE', cell: (it: SnapshotInfo) => formatBytes(it.sizeBytes), align: 'right' as const },
  {
    header: 'EXCLUSIVE',
    cell: (it: SnapshotInfo) => formatBytes(it.exclusiveBytes),
    align: 'right' as const,
  },
  { header: 'MEMORY', cell: (it: SnapshotInfo) => (it.hasMemory ? 'yes' : 'no') },
  { header: 'CONSISTENCY', cell: (it: SnapshotInfo) => it.consistency },
  { header: 'PARENT', cell: (it: SnapshotInfo) => it.parent },
  { header: 'CREATED', cell: (it: SnapshotInfo) => formatAge(it.createdAt) },
];

const inspect = createCommand({
  name: 'inspect',
  summary: 'show everything about a snapshot',
  args: { box, name },
  options: { format },
  async handler(context, args, { format }) {
    const { snapshot } = await requireBox(context, args.box);
    const info = found(await snapshot.get(args.name, { signal: context.signal }), 'snapshot', args.name);
    await printOne(context, format, info, snapshotFacts);
  },
});

function snapshotFacts(it: SnapshotInfo): Record<string, string | number | null> {
  return {
    name: it.name,
    id: it.id,
    box: it.boxId,
    size: formatBytes(it.sizeBytes),
    exclusive: formatBytes(it.exclusiveBytes),
    'guest disk': formatBytes(it.guestDiskBytes),
    'container disk': formatBytes(it.containerDiskBytes),
    memory: it.hasMemory ? 'yes' : 'no',
    consistency: it.consistency,
    parent: it.parent,
    created: it.createdAt.toISOString(),
  };
}

const restore = createCommand({
  name: 'restore',
  summary: 'put a stopped box back to a snapshot',
  args: { box, name },
  options: { live: flag('--live', 'put the whole machine back, memory included, in any state') },
  async handler(context, args, { live }) {
    const { snapshot } = await requireBox(context, args.box);
    await snapshot.restore(args.name, { live, signal: context.signal });
    await context.stdout.line(args.name);
  },
});

const remove = createCommand({
  name: 'rm',
  summary: 'remove snapshots of a box',
  args: { box, names: several('snapshot', 'names of snapshots') },
  options: {},
  async handler(context, args) {
    const { snapshot } = await requireBox(context, args.box);
    return await forEachTarget(context, args.names, async (target) => {
      await snapshot.remove(target, { signal: context.signal });
      return target;
    });
  },
});

export const snapshot = createGroup({
  name: 'snapshot',
  aliases: ['snapshots'],
  summary: 'snapshots of a box: take, list, restore, remove',
  commands: [create, list, inspect, restore, remove],
});

export const rollback = createCommand({
  name: 'rollback',
  summary: 'put a box back to a memory snapshot, live',
  args: { box, name },
  options: {},
  async handler(context, args) {
    const { snapshot } = await requireBox(context, args.box);
    await snapshot.restore(args.name, { live: true, signal: context.signal });
    await context.stdout.line(args.name);
  },
});
