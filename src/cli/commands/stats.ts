import { setTimeout as delay } from 'node:timers/promises';
import type { BoxInfo, BoxMetrics, MetricsPoint } from '../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { printListing } from '../listing.js';
import type { Column } from '../output/table.js';
import { formatBytes, formatDuration } from '../output/units.js';
import { shortener } from '../short-ids.js';
import { type Format, flag, format, rest, trunc } from '../specs.js';
import { requireBox } from '../targets.js';

/** How often the table is drawn anew: what is shown is of the time between. */
const everyMs = 1000;

interface Usage extends BoxMetrics {
  readonly id: string;
  readonly name: string | null;
  readonly memoryLimitBytes: number;
}

export const stats = createCommand({
  name: 'stats',
  summary: 'show what boxes use, again every second',
  args: { boxes: rest('box', 'names or ids (default: all that run)') },
  options: {
    stream: flag('--no-stream', 'show it once'),
    all: flag('-a, --all', 'also boxes that do not run'),
    history: flag('--history', 'what one box used over the last hour, a line for every point'),
    trunc,
    format,
  },
  async handler(context, { boxes }, { stream, all, history, trunc, format }) {
    const { signal, streams } = context;
    if (history) return await showHistory(context, boxes, format);
    for (;;) {
      const usages = await usagesOf(context, boxes, all);
      const idOf = shortener(
        usages.map(({ id }) => id),
        trunc,
      );
      // Home and clear, so that the table stays in its place.
      if (stream && format === 'table' && streams.stdout.isTTY)
        await context.stdout.write('\u001b[H\u001b[2J');
      await printListing(context, format, usages, usageColumns(idOf), usageView);
      if (!stream) return;
      await delay(everyMs, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
    }
  },
});

/** The series of one box, as a table or as a template says. */
async function showHistory(context: Context, names: readonly string[], format: Format): Promise<void> {
  const [name] = names;
  if (name === undefined || names.length > 1) {
    throw new CryoboxError('invalid_argument', '`--history` takes one box');
  }
  const box = await requireBox(context, name);
  const { points } = await box.metricsSeries({ signal: context.signal });
  await printListing(context, format, points, historyColumns, (point) => point);
}

const historyColumns: readonly Column<MetricsPoint>[] = [
  { header: 'TIME', cell: ({ at }) => at.toISOString() },
  { header: 'CPU %', cell: ({ cpuPercent }) => percentOf(cpuPercent, 100), align: 'right' },
  { header: 'MEM USAGE', cell: ({ memoryBytes }) => bytesOf(memoryBytes), align: 'right' },
  {
    header: 'NET I/O',
    cell: (it) => pairOf(it.networkBytesReceived, it.networkBytesSent),
    align: 'right',
  },
  { header: 'DISK USED', cell: ({ diskUsedBytes }) => bytesOf(diskUsedBytes), align: 'right' },
];

async function usagesOf(context: Context, names: readonly string[], all: boolean): Promise<Usage[]> {
  const { signal } = context;
  const runtime = await context.runtime();
  const infos =
    names.length > 0
      ? await Promise.all(names.map(async (name) => (await requireBox(context, name)).info({ signal })))
      : (await runtime.list({ signal })).filter(({ status }) => all || status === 'running');
  const usages = await Promise.all(infos.map((info) => usageOf(context, info)));
  return usages.filter((usage) => usage !== null);
}

/** Null when the box was removed meanwhile. */
async function usageOf(context: Context, { id, name, memoryMiB }: BoxInfo): Promise<Usage | null> {
  const { signal } = context;
  try {
    const metrics = await (await requireBox(context, id)).metrics({ signal });
    return { id, name, memoryLimitBytes: memoryMiB * 1024 * 1024, ...metrics };
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return null;
    throw error;
  }
}

const percentOf = (part: number | null, whole: number): string | null =>
  part === null ? null : `${((part / whole) * 100).toFixed(2)}%`;
const bytesOf = (bytes: number | null): string | null => (bytes === null ? null : formatBytes(bytes));
const pairOf = (one: number | null, other: number | null): string | null =>
  one === null || other === null ? null : `${formatBytes(one)} / ${formatBytes(other)}`;

/** A usage as templates see it: all of it, and what container tools call their columns. */
function usageView(usage: Usage): unknown {
  const { name, id, cpuPercent, memoryBytes, memoryLimitBytes } = usage;
  return {
    ...usage,
    container: id,
    name: name ?? '',
    cpuPerc: cpuPercent === null ? '--' : `${cpuPercent.toFixed(2)}%`,
    memUsage: pairOf(memoryBytes, memoryLimitBytes) ?? '--',
    memPerc: percentOf(memoryBytes, memoryLimitBytes) ?? '--',
    netIO: pairOf(usage.networkBytesReceived, usage.networkBytesSent) ?? '--',
  };
}

function usageColumns(idOf: (id: string) => string): readonly Column<Usage>[] {
  return [
    { header: 'ID', cell: (it) => idOf(it.id) },
    { header: 'NAME', cell: (it) => it.name },
    { header: 'CPU %', cell: (it) => percentOf(it.cpuPercent, 100), align: 'right' },
    {
      header: 'MEM USAGE / LIMIT',
      cell: (it) => pairOf(it.memoryBytes, it.memoryLimitBytes),
      align: 'right',
    },
    { header: 'MEM %', cell: (it) => percentOf(it.memoryBytes, it.memoryLimitBytes), align: 'right' },
    { header: 'NET I/O', cell: (it) => pairOf(it.networkBytesReceived, it.networkBytesSent), align: 'right' },
    { header: 'DISK USED', cell: (it) => bytesOf(it.diskUsedBytes), align: 'right' },
    {
      header: 'UP',
      cell: (it) => (it.uptimeMs === null ? null : formatDuration(it.uptimeMs)),
      align: 'right',
    },
  ];
}
