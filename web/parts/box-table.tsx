import { useEffect, useRef, useState } from 'preact/hooks';
import { age, bytes } from '../lib/format.ts';
import { titleOf } from '../lib/operations.ts';
import { linkTo } from '../lib/route.ts';
import type { Column } from '../lib/table.ts';
import type { BoxJson } from '../lib/types.ts';
import { Status } from './status.tsx';

/** Of a row, in pixels: as in the style sheet. */
const rowHeight = 36;
/** Rows drawn above and below what is seen. */
const spareRows = 10;
const agesEveryMs = 10_000;

const columns: readonly (readonly [Column, string])[] = [
  ['name', 'Name'],
  ['status', 'State'],
  ['image', 'Image'],
  ['memory', 'Memory'],
  ['disk', 'Disk'],
  ['created', 'Age'],
  ['used', 'Used'],
];

interface Order {
  readonly column: Column;
  readonly down: boolean;
}

interface TableProps {
  readonly boxes: readonly BoxJson[];
  readonly order: Order;
  readonly onOrder: (order: Order) => void;
  readonly chosen: ReadonlySet<string>;
  readonly onChosen: (chosen: ReadonlySet<string>) => void;
}

/** A table of which only the rows that are seen are drawn: thousands of boxes change many times a second. */
export function BoxTable({ boxes, order, onOrder, chosen, onChosen }: TableProps) {
  const frame = useRef<HTMLElement>(null);
  const [seen, setSeen] = useState({ from: 0, count: 40 });
  const now = useNow(agesEveryMs);
  const look = () => {
    const { scrollTop = 0, clientHeight = 0 } = frame.current ?? {};
    const from = Math.max(0, Math.floor(scrollTop / rowHeight) - spareRows);
    const count = Math.ceil(clientHeight / rowHeight) + 2 * spareRows;
    setSeen((before) => (before.from === from && before.count === count ? before : { from, count }));
  };
  useEffect(() => {
    look();
    addEventListener('resize', look);
    return () => removeEventListener('resize', look);
  }, []);
  const rows = boxes.slice(seen.from, seen.from + seen.count);
  const every = boxes.length > 0 && boxes.every((box) => chosen.has(box.box_id));
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    onChosen(next);
  };
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reached by the keyboard
    <section class="table" ref={frame} onScroll={look} tabIndex={0} aria-label="Table of boxes">
      <table aria-rowcount={boxes.length + 1}>
        <thead>
          <tr>
            <th scope="col">
              <input
                type="checkbox"
                aria-label="Choose all"
                checked={every}
                onChange={() => onChosen(every ? new Set() : new Set(boxes.map((box) => box.box_id)))}
              />
            </th>
            {columns.map(([column, title]) => (
              <th key={column} scope="col" aria-sort={sortOf(order, column)}>
                <button
                  type="button"
                  class="quiet"
                  onClick={() => onOrder({ column, down: order.column === column ? !order.down : false })}
                >
                  {title}
                  {order.column === column ? (order.down ? ' ↓' : ' ↑') : ''}
                </button>
              </th>
            ))}
            <th scope="col">Labels</th>
          </tr>
        </thead>
        <tbody>
          <Space rows={seen.from} />
          {rows.map((box, at) => (
            <Row
              key={box.box_id}
              box={box}
              index={seen.from + at + 2}
              now={now}
              chosen={chosen.has(box.box_id)}
              onToggle={toggle}
            />
          ))}
          <Space rows={Math.max(0, boxes.length - seen.from - rows.length)} />
        </tbody>
      </table>
    </section>
  );
}

function sortOf(order: Order, column: Column): 'ascending' | 'descending' | undefined {
  if (order.column !== column) return undefined;
  return order.down ? 'descending' : 'ascending';
}

/** Stands for rows that are not drawn. */
function Space({ rows }: { rows: number }) {
  if (rows === 0) return null;
  return (
    <tr>
      <td colSpan={columns.length + 2} style={{ height: `${rows * rowHeight}px`, padding: 0 }} />
    </tr>
  );
}

interface RowProps {
  readonly box: BoxJson;
  readonly index: number;
  readonly now: number;
  readonly chosen: boolean;
  readonly onToggle: (id: string) => void;
}

function Row({ box, index, now, chosen, onToggle }: RowProps) {
  const title = titleOf(box);
  return (
    <tr aria-rowindex={index} class={chosen ? 'chosen' : ''}>
      <td>
        <input
          type="checkbox"
          aria-label={`Choose ${title}`}
          checked={chosen}
          onChange={() => onToggle(box.box_id)}
        />
      </td>
      <th scope="row">
        <a href={linkTo('box', box.box_id)}>{title}</a>
      </th>
      <td>
        <Status status={box.status} operation={box.operation} />
      </td>
      <td>{box.template ?? box.image}</td>
      <td>{bytes(box.memory_mib * 1024 * 1024)}</td>
      <td>{bytes(box.storage.disk_bytes + box.storage.memory_bytes)}</td>
      <td>{age(box.created_at, now)}</td>
      <td>{age(box.last_activity_at, now)}</td>
      <td class="labels">
        {Object.entries(box.labels).map(([key, value]) => (
          <span key={key} class="label">
            {key}={value}
          </span>
        ))}
      </td>
    </tr>
  );
}

/** The time, renewed now and then. */
function useNow(everyMs: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}
