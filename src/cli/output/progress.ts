import type { Progress } from '../../api/index.js';
import { printable } from './printable.js';
import { formatBytes, formatDuration } from './units.js';

/** What the progress display needs of stderr. */
export interface ProgressTarget {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Redraws on a terminal: often enough to look alive, rarely enough to cost nothing. */
const REDRAW_MS = 100;
/** Lines in a log, per item: enough to see that a pull lives. */
const LOG_MS = 5000;
/** Items kept; the oldest finished one is forgotten beyond it. An image has at most 127 layers. */
const MAX_ITEMS = 256;
const BAR_WIDTH = 20;

interface Item {
  readonly label: string;
  readonly startedAt: number;
  /** Bytes that were there at the first report: not part of the rate. */
  readonly startBytes: number;
  doneBytes: number;
  totalBytes: number | undefined;
  loggedAt: number;
}

/**
 * Progress of a long call on stderr: on a terminal one line per item, redrawn in place; elsewhere a plain line per item
 * now and then. Give {@link ProgressDisplay.report} as `onProgress` and call {@link ProgressDisplay.end} afterwards.
 */
export class ProgressDisplay {
  readonly #target: ProgressTarget;
  readonly #now: () => number;
  readonly #items = new Map<string, Item>();
  #drawnLines = 0;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(target: ProgressTarget, now: () => number = () => performance.now()) {
    this.#target = target;
    this.#now = now;
  }

  /** Takes one report. */
  readonly report = (progress: Progress): void => {
    const now = this.#now();
    const item = this.#itemOf(progress, now);
    item.doneBytes = progress.doneBytes;
    item.totalBytes = progress.totalBytes;
    if (!this.#target.isTTY) this.#log(item, now);
    else if (now - this.#drawnAt >= REDRAW_MS) this.#draw(now);
  };

  /** Draws the last state; what is written next starts on a line of its own. */
  end(): void {
    if (this.#target.isTTY && this.#items.size > 0) this.#draw(this.#now());
    this.#items.clear();
    this.#drawnLines = 0;
  }

  #itemOf(progress: Progress, now: number): Item {
    const key = `${progress.stage}\0${progress.item ?? ''}`;
    const known = this.#items.get(key);
    if (known) return known;
    if (this.#items.size >= MAX_ITEMS) this.#forgetOne();
    const item: Item = {
      label: labelOf(progress),
      startedAt: now,
      startBytes: progress.doneBytes,
      doneBytes: progress.doneBytes,
      totalBytes: progress.totalBytes,
      loggedAt: Number.NEGATIVE_INFINITY,
    };
    this.#items.set(key, item);
    return item;
  }

  #forgetOne(): void {
    const finished = [...this.#items].find(([, item]) => isDone(item)) ?? [...this.#items][0];
    if (finished) this.#items.delete(finished[0]);
  }

  #log(item: Item, now: number): void {
    const due = now - item.loggedAt >= LOG_MS || (isDone(item) && Number.isFinite(item.loggedAt));
    if (!due) return;
    // A finished item is said once more, then never again.
    item.loggedAt = isDone(item) ? Number.POSITIVE_INFINITY : now;
    this.#target.write(`${describe(item, now, undefined)}\n`);
  }

  #draw(now: number): void {
    this.#drawnAt = now;
    const room = Math.max(1, (this.#target.rows ?? 24) - 1);
    const items = [...this.#items.values()];
    const shown = items.length <= room ? items : items.filter((item) => !isDone(item)).slice(0, room);
    const up = this.#drawnLines > 0 ? `\u001b[${this.#drawnLines}A` : '';
    const width = (this.#target.columns ?? 80) - 1;
    const lines = shown.map((item) => `\u001b[2K${describe(item, now, width).slice(0, width)}\n`);
    this.#target.write(`${up}\r${lines.join('')}\u001b[J`);
    this.#drawnLines = shown.length;
  }
}

function labelOf({ stage, item }: Progress): string {
  if (item === undefined) return printable(stage);
  const digest = /^sha256:([0-9a-f]{12})/.exec(item);
  return printable(`${stage} ${digest?.[1] ?? item}`);
}

function isDone({ doneBytes, totalBytes }: Item): boolean {
  return totalBytes !== undefined && doneBytes >= totalBytes;
}

/** `layer 3b8d6a… [=====>    ] 12.0 MiB / 30.1 MiB  8.2 MiB/s  2.2 s left`; the bar only where there is room. */
function describe(item: Item, now: number, width: number | undefined): string {
  const { label, doneBytes, totalBytes } = item;
  const elapsedMs = now - item.startedAt;
  const moved = doneBytes - item.startBytes;
  const parts = [label];
  if (width !== undefined && width >= 80 && totalBytes !== undefined) parts.push(bar(doneBytes, totalBytes));
  // A step that counts no bytes is said by its name alone.
  if (totalBytes !== undefined) parts.push(`${formatBytes(doneBytes)} / ${formatBytes(totalBytes)}`);
  else if (doneBytes > 0) parts.push(formatBytes(doneBytes));
  if (moved > 0 && elapsedMs > 0) {
    const rate = moved / (elapsedMs / 1000);
    parts.push(`${formatBytes(Math.round(rate))}/s`);
    if (totalBytes !== undefined && doneBytes < totalBytes) {
      parts.push(`${formatDuration(((totalBytes - doneBytes) / rate) * 1000)} left`);
    }
  }
  return parts.join('  ');
}

function bar(done: number, total: number): string {
  const full = total === 0 ? BAR_WIDTH : Math.min(BAR_WIDTH, Math.floor((done / total) * BAR_WIDTH));
  return `[${'='.repeat(full)}${' '.repeat(BAR_WIDTH - full)}]`;
}
