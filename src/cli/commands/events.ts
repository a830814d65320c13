import { InvalidArgumentError } from 'commander';
import type { RuntimeEvent } from '../../api/index.js';
import { createCommand } from '../command.js';
import { printable } from '../output/printable.js';
import { format, many, text } from '../specs.js';

const keys = {
  type: (event: RuntimeEvent) => event.kind,
  event: (event: RuntimeEvent) => event.change,
  id: (event: RuntimeEvent) => event.id,
  box: (event: RuntimeEvent) => event.id,
} as const;

interface EventFilter {
  readonly key: string;
  matches(event: RuntimeEvent): boolean;
}

function parseEventFilter(text: string): EventFilter {
  const at = text.indexOf('=');
  const key = Object.keys(keys).find((it) => it === text.slice(0, Math.max(0, at)));
  if (key === undefined) {
    throw new InvalidArgumentError(`Expected KEY=VALUE with one of ${Object.keys(keys).join(', ')}.`);
  }
  const value = text.slice(at + 1);
  return { key, matches: (event) => keys[key as keyof typeof keys](event) === value };
}

export const events = createCommand({
  name: 'events',
  summary: 'print changes of boxes, images, templates and volumes as they happen, until Ctrl-C',
  args: {},
  options: {
    filter: many('-f, --filter <key=value>', `only those: ${Object.keys(keys).join(', ')}`, parseEventFilter),
    since: text('--since <position>', 'first those after the position of an event (--format json shows it)'),
    format: { ...format, summary: `${format.summary}; json is a line for each` },
  },
  async handler(context, _, { filter, since, format }) {
    const runtime = await context.runtime();
    for await (const event of runtime.events({ since, signal: context.signal })) {
      const wanted = [...new Set(filter.map(({ key }) => key))].every((key) =>
        filter.some((it) => it.key === key && it.matches(event)),
      );
      if (!wanted) continue;
      if (format === 'json') await context.stdout.line(JSON.stringify(event));
      else if (format !== 'table')
        await context.stdout.line(printable(format.render(event), { lines: true }));
      else {
        const { at, kind, change, id } = event;
        await context.stdout.line(printable(`${at.toISOString()} ${kind} ${change} ${id}`));
      }
    }
    context.signal.throwIfAborted();
  },
});
