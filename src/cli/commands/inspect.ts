import type { BoxInfo, DiskLimits, MainInfo } from '../../api/index.js';
import { boxDocument, statusOf, textOf } from '../box-view.js';
import { createCommand } from '../command.js';
import { printJson, printOne } from '../listing.js';
import { formatBytes, formatDuration } from '../output/units.js';
import { format, several } from '../specs.js';
import { forEachTarget, requireBox } from '../targets.js';

export const inspect = createCommand({
  name: 'inspect',
  summary: 'show everything about boxes',
  args: { boxes: several('box', 'names or ids') },
  options: { format: { ...format, flags: `-f, ${format.flags}` } },
  async handler(context, { boxes }, { format }) {
    const infos: BoxInfo[] = [];
    const exitCode = await forEachTarget(context, boxes, async (target) => {
      infos.push(await (await requireBox(context, target)).info({ signal: context.signal }));
      return undefined;
    });
    // One box is an object, as it is asked for by its name; several are a list.
    if (format === 'json' && boxes.length > 1) await printJson(context, infos);
    else for (const info of infos) await printOne(context, format, info, boxFacts, boxDocument);
    return exitCode;
  },
});

function mainFacts({ command, tty, exitCode, signal }: MainInfo): string {
  const end =
    signal === null ? (exitCode === null ? '' : ` (ended with ${exitCode})`) : ` (ended by signal ${signal})`;
  return `${command.join(' ')}${tty ? ' on a terminal' : ''}${end}`;
}

function diskLimitsText(limits: DiskLimits): string {
  const { readBytesPerSecond, writeBytesPerSecond } = limits;
  const bytes = (what: string, value: number | undefined): string[] =>
    value === undefined ? [] : [`${what} ${formatBytes(value)}/s`];
  const count = (what: string, value: number | undefined): string[] =>
    value === undefined ? [] : [`${value} ${what}/s`];
  return [
    ...bytes('read', readBytesPerSecond),
    ...bytes('write', writeBytesPerSecond),
    ...count('reads', limits.readOperationsPerSecond),
    ...count('writes', limits.writeOperationsPerSecond),
  ].join(', ');
}

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
    'disk limits': diskLimitsText(box.diskLimits),
    'working directory': box.workingDir,
    user: box.user,
    entrypoint: box.entrypoint.join(' '),
    command: box.cmd.join(' '),
    'main command': box.main && mainFacts(box.main),
    environment: textOf(box.env, ' '),
    labels: textOf(box.labels, ' '),
    volumes: box.volumes.map(({ volume, guestPath }) => `${volume}:${guestPath}`).join(', '),
    ports: box.ports.map((it) => `${it.hostIp}:${it.hostPort} to ${it.guestPort}`).join(', '),
    timers: `stop ${seconds(box.autoStop)}, remove ${seconds(box.autoDelete)}`,
    lifetime: box.lifetime === 0 ? null : `${box.lifetimeAction} ${seconds(box.lifetime)}`,
    'ends at': box.endsAt?.toISOString() ?? null,
    storage: `${formatBytes(box.storage.diskBytes)} disk, ${formatBytes(box.storage.memoryBytes)} memory`,
    process: box.pid,
    created: box.createdAt.toISOString(),
    updated: box.updatedAt.toISOString(),
    ...Object.fromEntries(
      Object.entries(box.stages).map(([stage, ms]) => [`stage ${stage}`, formatDuration(ms)]),
    ),
  };
}

function seconds(count: number): string {
  return count === 0 ? 'never' : `after ${formatDuration(count * 1000)}`;
}
