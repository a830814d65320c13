import { createCommand, createGroup } from '../command.js';
import { printListing } from '../listing.js';
import { formatAge, formatBytes } from '../output/units.js';
import { flag, format, optional, several, value } from '../specs.js';
import { forEachTarget } from '../targets.js';
import { parseDiskGb } from '../values.js';

const create = createCommand({
  name: 'create',
  summary: 'make a volume and print its name',
  args: { name: optional('name', 'name of the volume (default: a new one)') },
  options: { size: value('--size <size>', 'size in GiB (default: 10)', parseDiskGb) },
  async handler(context, { name }, { size }) {
    const { volumes } = await context.runtime();
    const made = await volumes.create({ name, sizeGb: size, signal: context.signal });
    await context.stdout.line(made.name);
  },
});

const list = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'list volumes',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { volumes } = await context.runtime();
    await printListing(context, format, await volumes.list({ signal: context.signal }), [
      { header: 'ID', cell: (it) => it.id },
      { header: 'NAME', cell: (it) => it.name },
      { header: 'SIZE', cell: (it) => formatBytes(it.sizeBytes), align: 'right' },
      { header: 'USED', cell: (it) => formatBytes(it.usedBytes), align: 'right' },
      { header: 'BOXES', cell: (it) => it.boxes.join(', ') },
      { header: 'CREATED', cell: (it) => formatAge(it.createdAt) },
    ]);
  },
});

const remove = createCommand({
  name: 'rm',
  summary: 'remove volumes',
  args: { names: several('volume', 'names or ids') },
  options: { force: flag('-f, --force', 'no error when there is none') },
  handler: (context, { names }, { force }) =>
    forEachTarget(context, names, async (target) => {
      const { volumes } = await context.runtime();
      await volumes.remove(target, { force, signal: context.signal });
      return target;
    }),
});

export const volume = createGroup({
  name: 'volume',
  aliases: ['volumes'],
  summary: 'disks that outlive boxes: make, list, remove',
  commands: [create, list, remove],
});
