import type { VolumeInfo } from '../../api/index.js';
import { createCommand, createGroup } from '../command.js';
import { confirm } from '../confirm.js';
import { printJson, printListing, printOne } from '../listing.js';
import { formatAge, formatBytes } from '../output/units.js';
import { shortener } from '../short-ids.js';
import { flag, format, optional, several, trunc, value } from '../specs.js';
import { forEachTarget, found } from '../targets.js';
import { parseDiskGb } from '../values.js';
import { pruneVolumes } from './system.js';

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
  options: { quiet: flag('-q, --quiet', 'print names only'), trunc, format },
  isDefault: true,
  async handler(context, _, { quiet, trunc, format }) {
    const { volumes } = await context.runtime();
    const all = await volumes.list({ signal: context.signal });
    if (quiet) {
      for (const { name } of all) await context.stdout.line(name);
      return;
    }
    const idOf = shortener(
      all.map(({ id }) => id),
      trunc,
    );
    const boxOf = shortener(
      all.flatMap(({ boxes }) => boxes),
      trunc,
    );
    await printListing(context, format, all, [
      { header: 'ID', cell: (it) => idOf(it.id) },
      { header: 'NAME', cell: (it) => it.name },
      { header: 'SIZE', cell: (it) => formatBytes(it.sizeBytes), align: 'right' },
      { header: 'USED', cell: (it) => formatBytes(it.usedBytes), align: 'right' },
      { header: 'BOXES', cell: (it) => it.boxes.map(boxOf).join(', ') },
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

const inspect = createCommand({
  name: 'inspect',
  summary: 'show everything about volumes',
  args: { names: several('volume', 'names or ids') },
  options: { format: { ...format, flags: `-f, ${format.flags}` } },
  async handler(context, { names }, { format }) {
    const { volumes } = await context.runtime();
    const infos: VolumeInfo[] = [];
    const exitCode = await forEachTarget(context, names, async (name) => {
      infos.push(found(await volumes.get(name, { signal: context.signal }), 'volume', name));
      return undefined;
    });
    if (format === 'json' && names.length > 1) await printJson(context, infos);
    else for (const info of infos) await printOne(context, format, info, volumeFacts);
    return exitCode;
  },
});

function volumeFacts(it: VolumeInfo): Record<string, string> {
  return {
    id: it.id,
    name: it.name,
    size: formatBytes(it.sizeBytes),
    used: formatBytes(it.usedBytes),
    boxes: it.boxes.join(', '),
    created: it.createdAt.toISOString(),
  };
}

const prune = createCommand({
  name: 'prune',
  summary: 'remove all volumes that no box has',
  args: {},
  options: { force: flag('-f, --force', 'do not ask'), all: flag('-a, --all', 'no effect: all are meant') },
  async handler(context, _, { force }) {
    if (!force && !(await confirm(context, 'All volumes that no box has are removed for good'))) return 0;
    return await pruneVolumes(context);
  },
});

export const volume = createGroup({
  name: 'volume',
  aliases: ['volumes'],
  summary: 'disks that outlive boxes: make, list, inspect, remove',
  commands: [create, list, inspect, remove, prune],
});
