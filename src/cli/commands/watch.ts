import type { FileEvent } from '../../api/index.js';
import { createCommand } from '../command.js';
import { printable } from '../output/printable.js';
import { flag, required } from '../specs.js';
import { requireBox } from '../targets.js';

function lineOf({ type, path, to }: FileEvent): string {
  if (type === 'overflow') return `overflow ${path}: more happened than could be told`;
  return to === undefined ? `${type} ${path}` : `${type} ${path} -> ${to}`;
}

export const watch = createCommand({
  name: 'watch',
  summary: 'print what happens in a directory of a box, until Ctrl-C',
  args: {
    box: required('box', 'its name, id, or the beginning of its id'),
    path: required('path', 'a directory'),
  },
  options: {
    recursive: flag('-r, --recursive', 'also what happens in the directories below'),
    json: flag('--json', 'a line of JSON for each event'),
  },
  async handler(context, { box: name, path }, { recursive, json }) {
    const box = await requireBox(context, name);
    const watched = await box.files.watch(path, { recursive, signal: context.signal });
    for await (const event of watched) {
      await context.stdout.line(json ? JSON.stringify(event) : printable(lineOf(event)));
    }
    context.signal.throwIfAborted();
  },
});
