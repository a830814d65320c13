import { useMemo, useState } from 'preact/hooks';
import { useAction } from '../lib/action.ts';
import { boxes } from '../lib/boxes.ts';
import { type BoxOperation, operations, runOnMany, titleOf } from '../lib/operations.ts';
import { linkTo } from '../lib/route.ts';
import { type Column, inOrder, matches } from '../lib/table.ts';
import type { BoxJson } from '../lib/types.ts';
import { useValue } from '../lib/value.ts';
import { BoxTable } from '../parts/box-table.tsx';
import { Confirm } from '../parts/dialog.tsx';
import { ErrorBox } from '../parts/errors.tsx';

/** All boxes: looked through, and acted on, many at a time. */
export function BoxesPage() {
  const all = useValue(boxes);
  const [filter, setFilter] = useState('');
  const [order, setOrder] = useState<{ column: Column; down: boolean }>({ column: 'created', down: true });
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [asked, setAsked] = useState<BoxOperation | undefined>(undefined);
  const action = useAction();
  const shown = useMemo(
    () =>
      inOrder(
        [...(all?.values() ?? [])].filter((box) => matches(box, filter)),
        order,
      ),
    [all, filter, order],
  );
  const selected = shown.filter((box) => chosen.has(box.box_id));
  const act = (operation: BoxOperation) => {
    setAsked(undefined);
    const fitting = selected.filter(operation.fits);
    return action.run(async (signal) => {
      const failed = await runOnMany(operation, fitting, signal);
      const [first] = failed;
      setChosen(new Set(failed.map(({ box }) => box.box_id)));
      if (first) throw first.error;
    });
  };
  return (
    <>
      <div class="toolbar">
        <h1>Boxes</h1>
        <input
          type="search"
          placeholder="Filter: name, image, state or label"
          aria-label="Filter boxes"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <a class="button primary" href={linkTo('create')}>
          Create a box
        </a>
      </div>
      <div class="toolbar" role="toolbar" aria-label="Chosen boxes">
        <span>
          {selected.length === 0 ? `${shown.length} boxes` : `${selected.length} of ${shown.length} chosen`}
        </span>
        {operations.map((operation) => (
          <button
            key={operation.name}
            type="button"
            class={operation.name === 'remove' ? 'danger' : ''}
            disabled={action.busy || !selected.some(operation.fits)}
            onClick={() => (operation.confirm ? setAsked(operation) : act(operation))}
          >
            {operation.title}
          </button>
        ))}
        {action.busy ? (
          <button type="button" onClick={action.cancel}>
            Cancel
          </button>
        ) : null}
      </div>
      <ErrorBox error={action.error} onClose={action.clear} />
      {all === undefined ? (
        <p role="status">Reading the boxes…</p>
      ) : (
        <BoxTable boxes={shown} order={order} onOrder={setOrder} chosen={chosen} onChosen={setChosen} />
      )}
      {all !== undefined && all.size === 0 ? (
        <p class="empty">
          There are no boxes yet. <a href={linkTo('create')}>Create one</a>.
        </p>
      ) : null}
      {asked ? (
        <Confirm
          title={`${asked.title} ${selected.length} ${selected.length === 1 ? 'box' : 'boxes'}?`}
          what={listed(selected)}
          verb={asked.title}
          onYes={() => act(asked)}
          onClose={() => setAsked(undefined)}
        />
      ) : null}
    </>
  );
}

const mostListed = 10;

function listed(boxes: readonly BoxJson[]): string {
  const names = boxes.slice(0, mostListed).map(titleOf).join(', ');
  return boxes.length > mostListed ? `${names} and ${boxes.length - mostListed} more` : names;
}
