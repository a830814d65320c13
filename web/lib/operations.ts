/** What can be done to boxes from a list or a page. */
import { ask, boxPath, post } from './api.ts';
import { lookAgain } from './boxes.ts';
import type { BoxJson } from './types.ts';

/** One operation. */
export interface BoxOperation {
  readonly name: string;
  readonly title: string;
  /** Whether it makes sense in a state. */
  readonly fits: (box: BoxJson) => boolean;
  /** Whether one is asked first. */
  readonly confirm: boolean;
  readonly run: (box: BoxJson) => Promise<unknown>;
}

const posting = (name: string, title: string, fits: BoxOperation['fits']): BoxOperation => ({
  name,
  title,
  fits,
  confirm: false,
  run: (box) => post(boxPath(box.box_id, `/${name}`)),
});

const halted = ['configured', 'stopped', 'failed'];

/** In the order of their buttons. */
export const operations: readonly BoxOperation[] = [
  posting('start', 'Start', ({ status }) => halted.includes(status)),
  posting('resume', 'Resume', ({ status }) => status === 'paused'),
  posting('pause', 'Pause', ({ status }) => status === 'running'),
  posting('stop', 'Stop', ({ status }) => status === 'running' || status === 'paused'),
  {
    name: 'remove',
    title: 'Remove',
    fits: () => true,
    confirm: true,
    run: (box) => ask(boxPath(box.box_id, '?force=true'), { method: 'DELETE' }),
  },
];

/** What became of one operation on many boxes. */
export interface ManyResult {
  readonly box: BoxJson;
  readonly error: unknown;
}

/** Boxes that are worked on at once: each may start a machine. */
const atOnce = 4;

/** Does something to many boxes, and gives those it failed for. */
export async function runOnMany(
  operation: BoxOperation,
  boxes: readonly BoxJson[],
  signal: AbortSignal,
): Promise<ManyResult[]> {
  const failed: ManyResult[] = [];
  const waiting = [...boxes];
  const work = async (): Promise<void> => {
    for (let box = waiting.shift(); box && !signal.aborted; box = waiting.shift()) {
      const current = box;
      await operation.run(current).catch((error: unknown) => failed.push({ box: current, error }));
      lookAgain(current.box_id);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return failed;
}

/** What a box is called. */
export function titleOf({ name, box_id: id }: BoxJson): string {
  return name ?? id.slice(0, 12);
}
