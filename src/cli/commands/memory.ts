import type { ForkResult, TemplateInfo } from '../../api/index.js';
import { fromPairs } from '../box-options.js';
import { textOf } from '../box-view.js';
import { createCommand, createGroup } from '../command.js';
import type { Context } from '../context.js';
import { describeFailure, exitCodes } from '../failure.js';
import { printListing, printOne } from '../listing.js';
import { formatAge, formatBytes } from '../output/units.js';
import { flag, format, many, optional, required, several, text, value } from '../specs.js';
import { forEachTarget, found, requireBox } from '../targets.js';
import { oneOf, parseCount, parseLabel } from '../values.js';

const boxes = several('box', 'names or ids');
const box = required('box', 'name or id');

export const pause = createCommand({
  name: 'pause',
  summary: 'write the memory of boxes to disk and free it',
  args: { boxes },
  options: {},
  handler: (context, args) =>
    forEachTarget(context, args.boxes, async (target) => {
      const it = await requireBox(context, target);
      await it.pause({ signal: context.signal });
      return target;
    }),
});

export const resume = createCommand({
  name: 'resume',
  aliases: ['unpause'],
  summary: 'bring paused boxes back with their processes',
  args: { boxes },
  options: {
    pager: value('--pager <pager>', 'auto, mmap or uffd (default: auto)', oneOf('auto', 'mmap', 'uffd')),
  },
  handler: (context, args, { pager }) =>
    forEachTarget(context, args.boxes, async (target) => {
      const it = await requireBox(context, target);
      await it.resume({ pager, signal: context.signal });
      return target;
    }),
});

export const fork = createCommand({
  name: 'fork',
  summary: 'branch a box into running copies with its processes, and print their ids',
  args: { box },
  options: {
    count: value('-n, --count <count>', 'how many, 1 to 100 (default: 1, or as many as names)', parseCount),
    name: many('--name <name>', 'name of a copy; once for each', (name) => name),
    fromSnapshot: text('--from-snapshot <name>', 'a memory snapshot (default: the box as it is)'),
  },
  async handler(context, args, { count, name, fromSnapshot }) {
    const source = await requireBox(context, args.box);
    const results = await source.fork({
      count: count ?? Math.max(1, name.length),
      names: name.length > 0 ? name : undefined,
      fromSnapshot,
      signal: context.signal,
    });
    return await printForks(context, results);
  },
});

async function printForks(context: Context, results: readonly ForkResult[]): Promise<number> {
  let exitCode = 0;
  for (const result of results) {
    if ('box' in result) await context.stdout.line(result.box.id);
    else {
      exitCode = exitCodes.failed;
      await context.stderr.write(describeFailure(result.error));
    }
  }
  return exitCode;
}

const createTemplate = createCommand({
  name: 'create',
  summary: 'make a template of a running or paused box and print its name',
  args: { box, name: optional('name', 'name of the template (default: a new one)') },
  options: {
    overwrite: flag('--overwrite', 'replace a template of that name'),
    label: many('-l, --label <KEY=VALUE>', 'label', parseLabel),
  },
  async handler(context, args, { overwrite, label }) {
    const { templates } = await context.runtime();
    const { signal } = context;
    const made = await templates.create({
      box: args.box,
      name: args.name,
      overwrite,
      labels: fromPairs(label),
      signal,
    });
    await context.stdout.line(made.name);
  },
});

const listTemplates = createCommand({
  name: 'ls',
  aliases: ['list'],
  summary: 'list templates',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { templates } = await context.runtime();
    const all = await templates.list({ signal: context.signal });
    await printListing(context, format, all, [
      { header: 'NAME', cell: (it) => it.name },
      { header: 'IMAGE', cell: (it) => it.image },
      { header: 'CPUS', cell: (it) => it.cpus, align: 'right' },
      { header: 'MEMORY', cell: (it) => `${it.memoryMiB} MiB`, align: 'right' },
      { header: 'SIZE', cell: (it) => formatBytes(it.sizeBytes), align: 'right' },
      { header: 'CREATED', cell: (it) => formatAge(it.createdAt) },
    ]);
  },
});

const inspectTemplate = createCommand({
  name: 'inspect',
  summary: 'show everything about a template',
  args: { name: required('name', 'name of the template') },
  options: { format },
  async handler(context, { name }, { format }) {
    const { templates } = await context.runtime();
    const info = found(await templates.get(name, { signal: context.signal }), 'template', name);
    await printOne(context, format, info, templateFacts);
  },
});

function templateFacts(it: TemplateInfo): Record<string, string> {
  return {
    name: it.name,
    image: it.image,
    shape: `${it.cpus} cpus, ${it.memoryMiB} MiB memory, ${it.diskSizeGb} GiB disk`,
    size: formatBytes(it.sizeBytes),
    created: it.createdAt.toISOString(),
    labels: textOf(it.labels, ','),
  };
}

const removeTemplate = createCommand({
  name: 'rm',
  summary: 'remove templates',
  args: { names: several('name', 'names of templates') },
  options: {},
  handler: (context, { names }) =>
    forEachTarget(context, names, async (target) => {
      const { templates } = await context.runtime();
      await templates.remove(target, { signal: context.signal });
      return target;
    }),
});

export const template = createGroup({
  name: 'template',
  aliases: ['templates'],
  summary: 'templates new boxes start from: make, list, remove',
  commands: [createTemplate, listTemplates, inspectTemplate, removeTemplate],
});
