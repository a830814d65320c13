import { type BoxInfo, boxStatuses } from '../../api/index.js';
import { meets, parseFilter } from '../box-filter.js';
import { boxView, statusOf } from '../box-view.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { printListing } from '../listing.js';
import type { Column } from '../output/table.js';
import { formatAge, formatBytes } from '../output/units.js';
import { shortener } from '../short-ids.js';
import { flag, format, many, trunc, value } from '../specs.js';
import { oneOf } from '../values.js';

function boxColumns(idOf: (id: string) => string): readonly Column<BoxInfo>[] {
  return [
    { header: 'ID', cell: (box) => idOf(box.id) },
    { header: 'NAME', cell: (box) => box.name },
    { header: 'IMAGE', cell: (box) => box.image },
    { header: 'STATUS', cell: statusOf },
    { header: 'CPUS', cell: (box) => box.cpus, align: 'right' },
    { header: 'MEMORY', cell: (box) => `${box.memoryMiB} MiB`, align: 'right' },
    { header: 'DISK USED', cell: (box) => formatBytes(box.storage.diskBytes), align: 'right' },
    { header: 'MEMORY SAVED', cell: (box) => formatBytes(box.storage.memoryBytes), align: 'right' },
    { header: 'CREATED', cell: (box) => formatAge(box.createdAt) },
  ];
}

const listOptions = {
  status: value('--status <status>', `only those: ${boxStatuses.join(', ')}`, oneOf(...boxStatuses)),
  filter: many(
    '-f, --filter <key=value>',
    'only those: id, name, status, label, ancestor, volume',
    parseFilter,
  ),
  quiet: flag('-q, --quiet', 'print whole ids only'),
  trunc,
  format,
};

type ListOptions = { readonly [K in keyof typeof listOptions]: (typeof listOptions)[K]['initial'] };

async function printBoxes(
  context: Context,
  { status, filter, quiet, trunc, format }: ListOptions,
  wanted: (box: BoxInfo) => boolean,
): Promise<void> {
  const runtime = await context.runtime();
  const all = await runtime.list({ status, signal: context.signal });
  const boxes = all.filter((box) => wanted(box) && meets(box, filter));
  const idOf = shortener(
    all.map(({ id }) => id),
    trunc,
  );
  if (!quiet) await printListing(context, format, boxes, boxColumns(idOf), (box) => boxView(box, idOf));
  else for (const { id } of boxes) await context.stdout.line(id);
}

export const ls = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'list all boxes',
  args: {},
  options: { all: flag('-a, --all', 'no effect: all are listed'), ...listOptions },
  handler: (context, _, options) => printBoxes(context, options, () => true),
});

/** What `ps` leaves out without `--all`, as container tools do: boxes at rest. */
const atRest: readonly string[] = ['configured', 'stopped', 'failed'];

export const ps = createCommand({
  name: 'ps',
  summary: 'list the boxes that run or are paused; all with -a',
  args: {},
  options: { all: flag('-a, --all', 'also those that do not run'), ...listOptions },
  handler: (context, _, options) => {
    const asked = options.status !== undefined || options.filter.some(({ key }) => key === 'status');
    return printBoxes(context, options, ({ status }) => options.all || asked || !atRest.includes(status));
  },
});
