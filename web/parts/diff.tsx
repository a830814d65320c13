import { useEffect, useState } from 'preact/hooks';
import { useAction } from '../lib/action.ts';
import { askJson, boxPath } from '../lib/api.ts';
import { bytes } from '../lib/format.ts';
import type { TreeNodeJson } from '../lib/tree.ts';
import { Dialog } from './dialog.tsx';
import { ErrorBox } from './errors.tsx';

/** Changes that are read and shown at once. */
const pageLength = 500;

/** One changed file (docs/api.md, `GET {p}/boxes/{id}/diff`). */
interface ChangeJson {
  readonly path: string;
  readonly kind: string;
  readonly type_before: string | null;
  readonly type_after: string | null;
  readonly size_before: number | null;
  readonly size_after: number | null;
}

interface DiffJson {
  readonly changes: readonly ChangeJson[];
  readonly next: string | null;
}

/** What is compared: `from` is the image of the other one's box where it is left out. */
export interface Compared {
  readonly from: TreeNodeJson | undefined;
  readonly to: TreeNodeJson;
}

/** The states that hold a disk that can be compared: boxes as they are, and snapshots. */
export function hasDisk({ kind }: TreeNodeJson): boolean {
  return kind === 'box' || kind === 'snapshot';
}

function queryOf({ from, to }: Compared, after: string | null): string {
  const query = new URLSearchParams({ limit: String(pageLength) });
  const add = (name: 'from' | 'to', node: TreeNodeJson) => {
    query.set(`${name}_box`, node.box_id ?? node.id);
    if (node.kind === 'snapshot') query.set(name, node.name ?? '');
  };
  if (from) add('from', from);
  add('to', to);
  if (after !== null) query.set('after', after);
  return query.toString();
}

/** The files that differ between two states, page after page. */
export function DiffDialog({
  compared,
  title,
  onClose,
}: {
  compared: Compared;
  title: string;
  onClose: () => void;
}) {
  const action = useAction();
  const [read, setRead] = useState<DiffJson | undefined>(undefined);
  const more = (before: DiffJson | undefined) =>
    action.run(async (signal) => {
      const path = `/diff?${queryOf(compared, before?.next ?? null)}`;
      const page = await askJson<DiffJson>(boxPath(compared.to.box_id ?? compared.to.id, path), { signal });
      setRead({ changes: [...(before?.changes ?? []), ...page.changes], next: page.next });
    });
  useEffect(() => {
    // It never fails: what goes wrong is in the action.
    more(undefined).catch(() => undefined);
  }, []);
  return (
    <Dialog title={title} onClose={onClose}>
      <ErrorBox error={action.error} />
      {read ? <Changes diff={read} /> : null}
      <div class="buttons">
        {action.busy ? <span role="status">comparing…</span> : null}
        {read && read.next !== null ? (
          <button type="button" disabled={action.busy} onClick={() => more(read)}>
            More
          </button>
        ) : null}
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

function Changes({ diff }: { diff: DiffJson }) {
  if (diff.changes.length === 0) return <p>No file differs.</p>;
  return (
    <section class="table-wrap" aria-label="Changed files">
      <table>
        <thead>
          <tr>
            <th scope="col">Change</th>
            <th scope="col">Path</th>
            <th scope="col">Before</th>
            <th scope="col">After</th>
          </tr>
        </thead>
        <tbody>
          {diff.changes.map((it) => (
            <tr key={it.path}>
              <td>{it.kind}</td>
              <td>{it.path}</td>
              <td>{factsOf(it.type_before, it.size_before)}</td>
              <td>{factsOf(it.type_after, it.size_after)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function factsOf(type: string | null, size: number | null): string {
  if (type === null) return '';
  return type === 'file' && size !== null ? bytes(size) : type;
}
