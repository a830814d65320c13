import type { Box, DiffOptions, DiskState, FileChange } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { printListing } from '../listing.js';
import { printable } from '../output/printable.js';
import { format, optional, required } from '../specs.js';
import { requireBox } from '../targets.js';

export const diff = createCommand({
  name: 'diff',
  summary: 'list the files that differ between two states: of a box and its image, of boxes and snapshots',
  args: {
    state: required('state', 'box, or box@snapshot'),
    other: optional('other', 'box, or box@snapshot (default: the image of the first is compared with it)'),
  },
  options: { format },
  async handler(context, { state, other }, { format }) {
    const one = parseState(state);
    const box = await requireBox(context, one.box);
    const states = other === undefined ? { to: one } : { from: one, to: parseState(other) };
    if (format === 'table') {
      const lines = new DiffLines();
      for await (const each of changesOf(context, box, states)) await context.stdout.write(lines.of(each));
      return;
    }
    const all: FileChange[] = [];
    for await (const each of changesOf(context, box, states)) all.push(each);
    await printListing(context, format, all, []);
  },
});

/** Names of boxes hold no `@`; those of snapshots may. */
function parseState(text: string): DiskState & { readonly box: string } {
  const at = text.indexOf('@');
  if (at === -1) return { box: text };
  const state = { box: text.slice(0, at), snapshot: text.slice(at + 1) };
  if (state.box !== '' && state.snapshot !== '') return state;
  throw new CryoboxError('invalid_argument', `${JSON.stringify(text)} is neither a box nor box@snapshot`);
}

/** All changes, page by page. */
async function* changesOf(context: Context, box: Box, states: DiffOptions): AsyncGenerator<FileChange> {
  const { signal } = context;
  let page = await box.diff({ ...states, signal });
  yield* page.changes;
  while (page.next !== null) {
    page = await box.diff({ ...states, after: page.next, signal });
    yield* page.changes;
  }
}

/**
 * Changes as container tools print them: A, C or D and a path. Directories around a change are changed too, and of a
 * directory that was removed nothing else is told.
 */
class DiffLines {
  /** Directories around the last change, the outermost first. */
  #around: readonly string[] = [];
  #removed: string | undefined;

  /** The lines of the next change. */
  of({ path, kind }: FileChange): string {
    if (this.#removed !== undefined && path.startsWith(this.#removed)) return '';
    this.#removed = kind === 'removed' ? `${path}/` : undefined;
    const around = directoriesOf(path);
    const letter = kind === 'added' ? 'A' : kind === 'removed' ? 'D' : 'C';
    const lines = [
      ...around.filter((it, i) => this.#around[i] !== it).map((it) => `C ${it}`),
      `${letter} ${path}`,
    ];
    this.#around = [...around, path];
    return lines.map((line) => `${printable(line)}\n`).join('');
  }
}

/** `/a/b/c` is in `/a` and `/a/b`. */
function directoriesOf(path: string): string[] {
  const parts = path.split('/').slice(1, -1);
  return parts.map((_, i) => `/${parts.slice(0, i + 1).join('/')}`);
}
