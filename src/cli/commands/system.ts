import { packageVersion } from '../../base/version.js';
import { meets, parseFilter } from '../box-filter.js';
import { createCommand, createGroup } from '../command.js';
import { confirm } from '../confirm.js';
import type { Context } from '../context.js';
import { namesSameImage } from '../image-name.js';
import { printListing, printOne } from '../listing.js';
import { formatBytes } from '../output/units.js';
import { flag, format, many } from '../specs.js';
import { forEachTarget } from '../targets.js';
import { events } from './events.js';
import { info } from './info.js';

export const version = createCommand({
  name: 'version',
  summary: 'show the version of this program and of the engine it talks to',
  args: {},
  options: { format: { ...format, flags: `-f, ${format.flags}` } },
  async handler(context, _, { format }) {
    const server = await engineOf(context);
    const client = { version: packageVersion(), node: process.versions.node, platform: process.platform };
    await printOne(context, format, { client, server }, () => ({
      client: client.version,
      engine: server === null ? 'not running' : (server.version ?? `a ${server.kind} that does not say`),
      node: client.node,
    }));
  },
});

/** Null when none runs: asking for the version starts nothing. */
async function engineOf({ connection }: Context): Promise<{ version: string | null; kind: string } | null> {
  // A server does not say which release it is.
  if (connection.url !== undefined) return { version: null, kind: 'server' };
  const { engineStatus } = await import('../../home/control.js');
  const { answering, version, kind } = await engineStatus(connection.home);
  return answering ? { version, kind: kind ?? 'engine' } : null;
}

/** One line of `system df`. */
interface Usage {
  readonly type: string;
  readonly totalCount: number;
  readonly active: number;
  readonly sizeBytes: number;
  readonly reclaimableBytes: number;
}

const df = createCommand({
  name: 'df',
  summary: 'show what images, boxes and volumes take on the disk',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    await printListing(
      context,
      format,
      await usages(context),
      [
        { header: 'TYPE', cell: (it) => it.type },
        { header: 'TOTAL', cell: (it) => it.totalCount, align: 'right' },
        { header: 'ACTIVE', cell: (it) => it.active, align: 'right' },
        { header: 'SIZE', cell: (it) => formatBytes(it.sizeBytes), align: 'right' },
        { header: 'RECLAIMABLE', cell: (it) => formatBytes(it.reclaimableBytes), align: 'right' },
      ],
      (it) => ({ ...it, size: formatBytes(it.sizeBytes), reclaimable: formatBytes(it.reclaimableBytes) }),
    );
  },
});

async function usages(context: Context): Promise<Usage[]> {
  const { signal } = context;
  const runtime = await context.runtime();
  const [boxes, images, volumes] = await Promise.all([
    runtime.list({ signal }),
    runtime.images.list({ signal }),
    runtime.volumes.list({ signal }),
  ]);
  const used = [...new Set(boxes.map(({ image }) => image))];
  const usage = <T>(
    type: string,
    things: readonly T[],
    isActive: (it: T) => boolean,
    bytesOf: (it: T) => number,
  ): Usage => {
    const sum = (some: readonly T[]): number => some.reduce((total, it) => total + bytesOf(it), 0);
    const active = things.filter(isActive);
    return {
      type,
      totalCount: things.length,
      active: active.length,
      sizeBytes: sum(things),
      reclaimableBytes: sum(things) - sum(active),
    };
  };
  return [
    usage(
      'Images',
      images,
      ({ reference }) => used.some((image) => namesSameImage(image, reference)),
      ({ sizeBytes }) => sizeBytes,
    ),
    usage(
      'Boxes',
      boxes,
      ({ status }) => !removable.includes(status),
      ({ storage }) => storage.diskBytes + storage.memoryBytes,
    ),
    usage(
      'Volumes',
      volumes,
      (it) => it.boxes.length > 0,
      ({ usedBytes }) => usedBytes,
    ),
  ];
}

/** States of boxes that `prune` removes: those that hold no memory, and do nothing. */
const removable: readonly string[] = ['configured', 'stopped', 'failed'];

/** Removes boxes that do not run, and says which. */
async function pruneBoxes(
  context: Context,
  filters: readonly ReturnType<typeof parseFilter>[],
): Promise<number> {
  const runtime = await context.runtime();
  const { signal } = context;
  const boxes = (await runtime.list({ signal })).filter(
    (box) => removable.includes(box.status) && meets(box, filters),
  );
  return await forEachTarget(
    context,
    boxes.map(({ id }) => id),
    async (id) => {
      await runtime.remove(id, { signal });
      return id;
    },
  );
}

const pruneOptions = {
  force: flag('-f, --force', 'do not ask'),
  filter: many('--filter <key=value>', 'only boxes that meet it, as of ls', parseFilter),
};

/** `prune` of boxes alone. */
export const pruneBoxesCommand = createCommand({
  name: 'prune',
  summary: 'remove all boxes that do not run, with their disks',
  args: {},
  options: pruneOptions,
  async handler(context, _, { force, filter }) {
    if (!force && !(await confirm(context, 'All boxes that do not run are removed, with their disks')))
      return 0;
    return await pruneBoxes(context, filter);
  },
});

const prune = createCommand({
  name: 'prune',
  summary: 'remove all boxes that do not run, and what nothing holds any more',
  args: {},
  options: {
    ...pruneOptions,
    all: flag('-a, --all', 'also every image that no box uses, built and imported ones too'),
    volumes: flag('--volumes', 'also every volume that no box has'),
  },
  async handler(context, _, { force, filter, all, volumes }) {
    const what = ['boxes that do not run'];
    if (all) what.push('images that no box uses');
    if (volumes) what.push('volumes that no box has');
    if (!force && !(await confirm(context, `All ${what.join(', ')} are removed for good`))) return 0;
    const { signal } = context;
    let exitCode = await pruneBoxes(context, filter);
    const runtime = await context.runtime();
    if (all) for (const image of await runtime.images.prune({ signal })) await context.stdout.line(image);
    if (volumes) exitCode ||= await pruneVolumes(context);
    const { freedBytes } = await runtime.gc({ signal });
    await context.stderr.line(`freed ${formatBytes(freedBytes)}`);
    return exitCode;
  },
});

/** Removes volumes that no box has, and says which. */
export async function pruneVolumes(context: Context): Promise<number> {
  const { volumes } = await context.runtime();
  const { signal } = context;
  const unused = (await volumes.list({ signal })).filter(({ boxes }) => boxes.length === 0);
  return await forEachTarget(
    context,
    unused.map(({ name }) => name),
    async (name) => {
      await volumes.remove(name, { signal });
      return name;
    },
  );
}

export const system = createGroup({
  name: 'system',
  summary: 'the home as a whole: what it takes, removing what is not used, events',
  commands: [df, prune, events, info],
});
