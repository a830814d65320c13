/** All boxes that are seen, kept in step by the events. */
import { askJson, boxPath } from './api.ts';
import { ApiError } from './errors.ts';
import { listenToEvents } from './events.ts';
import type { BoxJson } from './types.ts';
import { createValue } from './value.ts';

/** By id; undefined until they were read. */
export const boxes = createValue<ReadonlyMap<string, BoxJson> | undefined>(undefined);

/** Changes within this time are read and drawn together. */
const gatherMs = 200;
/** More changed boxes than this are read in one list. */
const mostSingly = 8;

let changed = new Set<string>();
/** Whether all of them have to be read. */
let stale = true;
let waits = false;

async function readAll(): Promise<void> {
  const { boxes: list } = await askJson<{ boxes: BoxJson[] }>('/boxes');
  stale = false;
  boxes.set(new Map(list.map((box) => [box.box_id, box])));
}

async function readSome(ids: ReadonlySet<string>): Promise<void> {
  const read = await Promise.all(
    [...ids].map(async (id) => {
      try {
        return [id, await askJson<BoxJson>(boxPath(id))] as const;
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return [id, undefined] as const;
        throw error;
      }
    }),
  );
  const next = new Map(boxes.get());
  for (const [id, box] of read) {
    if (box) next.set(id, box);
    else next.delete(id);
  }
  boxes.set(next);
}

function readSoon(): void {
  if (waits) return;
  waits = true;
  setTimeout(() => {
    const ids = changed;
    changed = new Set();
    const read = stale || ids.size > mostSingly ? readAll() : readSome(ids);
    read
      .catch(() => {
        // The stream of events ends as well, and says so.
        for (const id of ids) changed.add(id);
      })
      .finally(() => {
        waits = false;
        if (changed.size > 0 || stale) readSoon();
      });
  }, gatherMs);
}

/** Keeps {@link boxes} in step until the result is called. */
export function watchBoxes(): () => void {
  return listenToEvents({
    event: ({ kind, id }) => {
      if (kind !== 'box') return;
      changed.add(id);
      readSoon();
    },
    reset: () => {
      stale = true;
      readSoon();
    },
  });
}

/** Reads one box again, after something was done to it. */
export function lookAgain(id: string): void {
  changed.add(id);
  readSoon();
}
