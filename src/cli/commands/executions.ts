import { createCommand, createGroup } from '../command.js';
import { printListing } from '../listing.js';
import { formatAge, formatDuration } from '../output/units.js';
import { shortener } from '../short-ids.js';
import { flag, format, required, several, text, trunc } from '../specs.js';
import { executionIdOf, forEachTarget, requireBox } from '../targets.js';
import { parseSignal } from '../values.js';
import { attach } from './exec.js';

const box = required('box', 'name or id');

const list = createCommand({
  name: 'ls',
  aliases: ['list', 'ps'],
  summary: 'list the commands of a box that run, or ended in the last five minutes',
  args: { box },
  options: { quiet: flag('-q, --quiet', 'print whole ids only'), trunc, format },
  async handler(context, args, { quiet, trunc, format }) {
    const { executions } = await requireBox(context, args.box);
    const all = await executions.list({ signal: context.signal });
    const idOf = shortener(
      all.map(({ id }) => id),
      trunc,
    );
    if (quiet) {
      for (const { id } of all) await context.stdout.line(id);
      return;
    }
    await printListing(context, format, all, [
      { header: 'ID', cell: (it) => idOf(it.id) },
      { header: 'COMMAND', cell: (it) => it.command.join(' ') },
      { header: 'STATUS', cell: (it) => it.status },
      {
        header: 'EXIT',
        cell: (it) => it.exitCode ?? (it.signal === null ? null : 128 + it.signal),
        align: 'right',
      },
      { header: 'STARTED', cell: (it) => formatAge(it.startedAt) },
      {
        header: 'TOOK',
        cell: (it) => (it.durationMs === null ? null : formatDuration(it.durationMs)),
        align: 'right',
      },
    ]);
  },
});

const kill = createCommand({
  name: 'kill',
  summary: 'kill commands with all they started, or send them a signal',
  args: { box, executions: several('execution', 'ids of executions') },
  options: {
    signal: text('-s, --signal <signal>', 'name or number, to the process group (default: kill all)'),
  },
  async handler(context, args, { signal: name }) {
    const box = await requireBox(context, args.box);
    const { signal } = context;
    return await forEachTarget(context, args.executions, async (target) => {
      const id = await executionIdOf(context, box, target);
      if (name === undefined) await box.executions.kill(id, { signal });
      else await box.executions.signal(id, parseSignal(name), { signal });
      return target;
    });
  },
});

export const executions = createGroup({
  name: 'executions',
  aliases: ['execution'],
  summary: 'commands in a box: list, attach, kill',
  commands: [list, attach, kill],
});
