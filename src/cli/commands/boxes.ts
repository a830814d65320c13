import { type BoxInfo, boxStatuses } from '../../api/index.js';
import { createCommand } from '../command.js';
import { printListing, printOne } from '../listing.js';
import type { Column } from '../output/table.js';
import { formatAge, formatBytes, formatDuration } from '../output/units.js';
import { flag, format, required, several, value } from '../specs.js';
import { forEachTarget, requireBox } from '../targets.js';
import { oneOf, parseCount, parseDurationMs } from '../values.js';

const boxesArgument = { boxes: several('box', 'names or ids') };
const boxArgument = { box: required('box', 'name or id') };

export const start = createCommand({
  name: 'start',
  summary: 'start stopped boxes',
  args: boxesArgument,
  options: { discardMemory: flag('--discard-memory', 'start a paused box afresh') },
  handler: (context, { boxes }, { discardMemory }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      await box.start({ discardMemory, signal: context.signal });
      return target;
    }),
});

export const stop = createCommand({
  name: 'stop',
  summary: 'stop boxes',
  args: boxesArgument,
  options: { timeout: value('--timeout <duration>', 'time to end in order (default: 10s)', parseDurationMs) },
  handler: (context, { boxes }, { timeout }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      await box.stop({ timeoutMs: timeout, signal: context.signal });
      return target;
    }),
});

export const rm = createCommand({
  name: 'rm',
  summary: 'remove boxes',
  args: boxesArgument,
  options: { force: flag('-f, --force', 'also when they run') },
  handler: (context, { boxes }, { force }) =>
    forEachTarget(context, boxes, async (target) => {
      const runtime = await context.runtime();
      await runtime.remove(target, { force, signal: context.signal });
      return target;
    }),
});

const statusOf = (box: BoxInfo) => (box.operation ? `${box.status} (${box.operation})` : box.status);

const boxColumns: readonly Column<BoxInfo>[] = [
  { header: 'ID', cell: (box) => box.id },
  { header: 'NAME', cell: (box) => box.name },
  { header: 'IMAGE', cell: (box) => box.image },
  { header: 'STATUS', cell: statusOf },
  { header: 'CPUS', cell: (box) => box.cpus, align: 'right' },
  { header: 'MEMORY', cell: (box) => `${box.memoryMiB} MiB`, align: 'right' },
  { header: 'DISK USED', cell: (box) => formatBytes(box.storage.diskBytes), align: 'right' },
  { header: 'MEMORY SAVED', cell: (box) => formatBytes(box.storage.memoryBytes), align: 'right' },
  { header: 'CREATED', cell: (box) => formatAge(box.createdAt) },
];

export const ls = createCommand({
  name: 'ls',
  aliases: ['ps', 'list'],
  summary: 'list boxes',
  args: {},
  options: {
    status: value('--status <status>', `only those: ${boxStatuses.join(', ')}`, oneOf(...boxStatuses)),
    quiet: flag('-q, --quiet', 'print ids only'),
    format,
  },
  async handler(context, _, { status, quiet, format }) {
    const runtime = await context.runtime();
    const boxes = await runtime.list({ status, signal: context.signal });
    if (!quiet) await printListing(context, format, boxes, boxColumns);
    else for (const { id } of boxes) await context.stdout.line(id);
  },
});

export const inspect = createCommand({
  name: 'inspect',
  summary: 'show everything about a box',
  args: boxArgument,
  options: { format },
  async handler(context, { box }, { format }) {
    const info = await (await requireBox(context, box)).info({ signal: context.signal });
    await printOne(context, format, info, boxFacts);
  },
});

function boxFacts(box: BoxInfo): Record<string, string | number | null> {
  return {
    id: box.id,
    name: box.name,
    status: statusOf(box),
    failure: box.failure,
    image: box.image,
    template: box.template,
    shape: `${box.cpus} cpus, ${box.memoryMiB} MiB memory, ${box.diskSizeGb} GiB disk`,
    network: box.network.outbound === 'enabled' ? 'outbound' : 'none',
    'working directory': box.workingDir,
    user: box.user,
    entrypoint: box.entrypoint.join(' '),
    command: box.cmd.join(' '),
    environment: pairs(box.env),
    labels: pairs(box.labels),
    volumes: box.volumes.map(({ volume, guestPath }) => `${volume}:${guestPath}`).join(', '),
    timers: `stop ${seconds(box.autoStop)}, remove ${seconds(box.autoDelete)}`,
    storage: `${formatBytes(box.storage.diskBytes)} disk, ${formatBytes(box.storage.memoryBytes)} memory`,
    process: box.pid,
    created: box.createdAt.toISOString(),
    updated: box.updatedAt.toISOString(),
    ...Object.fromEntries(
      Object.entries(box.stages).map(([stage, ms]) => [`stage ${stage}`, formatDuration(ms)]),
    ),
  };
}

function pairs(record: Readonly<Record<string, string>>): string {
  return Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
}

function seconds(count: number): string {
  return count === 0 ? 'never' : `after ${formatDuration(count * 1000)}`;
}

export const logs = createCommand({
  name: 'logs',
  summary: "print the last lines of a box's console",
  args: boxArgument,
  options: { tail: value('-n, --tail <lines>', 'only the last lines', parseCount) },
  async handler(context, { box }, { tail }) {
    const log = await (await requireBox(context, box)).consoleLog({ signal: context.signal });
    const lines = log.split('\n');
    if (lines.at(-1) === '') lines.pop();
    const shown = tail === undefined ? lines : tail === 0 ? [] : lines.slice(-tail);
    for (const line of shown) await context.stdout.line(line);
  },
});
