import type { Logger } from '../../base/log.js';
import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import { type BoxRow, type Database, storeUses } from '../../store/index.js';
import { Deadlines } from './deadlines.js';

/** What is done to a box that nobody used for as long as its owner said. */
export type IdleAction = 'stop' | 'pause' | 'remove';

/** Somebody uses a box until this is disposed of; disposing twice is as good as once. */
export interface Use extends Disposable {
  /** When it began, in milliseconds since 1970. */
  readonly since: number;
}

/** The end of a use is written this late, so that commands in quick succession cost one write. */
const storeDelayMs = 2_000;
const msPerSecond = 1000;

type Rules = Pick<BoxRow, 'auto_stop' | 'auto_stop_action' | 'auto_delete'>;

interface BoxUse {
  /** Who uses the box now. */
  readonly uses: Set<Use>;
  /** When its last use ended, in milliseconds since 1970. */
  lastUsedAt: number;
  /** Absent until `watch`: a box that is not stored has no deadline. */
  rules: Rules | undefined;
  /** What the database says: whether it was in use. */
  storedInUse: boolean;
}

/** What {@link Activity} needs of the engine. */
export interface ActivityNeeds {
  readonly db: Database;
  readonly logger: Logger;
  /** Whether the box has a machine. */
  isRunning(boxId: string): boolean;
  /** Does what is due, if it still is: asks {@link Activity.due} again under the box's lock. */
  endIdle(boxId: string): Promise<void>;
}

/**
 * Who uses which box, since when, and until when a box nobody uses may stay as it is. Everything that uses a box takes a
 * {@link Use}: commands that run, files being copied, open ports, operations under way. One timer per box that has a
 * deadline; nothing polls.
 */
export class Activity {
  readonly #needs: ActivityNeeds;
  readonly #boxes = new Map<string, BoxUse>();
  /** Boxes whose use began or ended since it was last written. */
  readonly #unwritten = new Set<string>();
  readonly #deadlines: Deadlines;
  readonly #writing = new Mutex();
  /** The next write. */
  #next: { readonly timer: NodeJS.Timeout; readonly atMs: number } | undefined;
  #isClosed = false;

  constructor(needs: ActivityNeeds) {
    this.#needs = needs;
    this.#deadlines = new Deadlines({
      dueAt: (boxId) => this.#nextAction(boxId)?.at,
      run: (boxId) => needs.endIdle(boxId),
      failed: (boxId, error, retryMs) =>
        needs.logger.warn('cannot end an idle box', { box: boxId, reason: messageOf(error), retryMs }),
    });
  }

  /**
   * Begins to watch a stored box. One that was in use when the engine before ended counts as used until now: nobody knows
   * when that use ended.
   */
  watch(row: Rules & Pick<BoxRow, 'id' | 'last_active_at' | 'in_use'>): void {
    const box = this.#of(row.id);
    const { auto_stop, auto_stop_action, auto_delete } = row;
    box.rules = { auto_stop, auto_stop_action, auto_delete };
    box.storedInUse = row.in_use === 1;
    box.lastUsedAt = Math.max(box.lastUsedAt, box.storedInUse ? Date.now() : row.last_active_at);
    if (box.storedInUse) this.#write(row.id, storeDelayMs);
    this.#deadlines.changed(row.id);
  }

  /** Marks a box as used until the result is disposed of. */
  use(boxId: string): Use {
    const box = this.#of(boxId);
    const use: Use = {
      since: Date.now(),
      [Symbol.dispose]: () => {
        if (box.uses.delete(use)) this.#ended(boxId, box);
      },
    };
    box.uses.add(use);
    this.#deadlines.changed(boxId);
    // Written at once: should the engine be killed, the box is not taken for idle since its last use.
    if (!box.storedInUse) this.#write(boxId, 0);
    return use;
  }

  /** Notes a use that has ended, of which only now is heard. */
  used(boxId: string, endedAt: number): void {
    const box = this.#boxes.get(boxId);
    if (!box || endedAt <= box.lastUsedAt) return;
    box.lastUsedAt = Math.min(endedAt, Date.now());
    this.#write(boxId, storeDelayMs);
  }

  /** When a box was last used, in milliseconds since 1970: now, while somebody uses it; undefined of an unknown one. */
  lastUsedAt(boxId: string): number | undefined {
    const box = this.#boxes.get(boxId);
    return box && box.uses.size > 0 ? Date.now() : box?.lastUsedAt;
  }

  /** What is due for a box now; undefined while somebody uses it, and before its time has come. */
  due(boxId: string): IdleAction | undefined {
    const next = this.#nextAction(boxId);
    return next && next.at <= Date.now() ? next.action : undefined;
  }

  /** Forgets a box that is gone: it has no deadline any more, whoever still uses it. */
  forget(boxId: string): void {
    const box = this.#boxes.get(boxId);
    if (!box) return;
    box.rules = undefined;
    this.#deadlines.changed(boxId);
    this.#unwritten.delete(boxId);
    if (box.uses.size === 0) this.#boxes.delete(boxId);
  }

  /** Writes which boxes are used, and when the others were last. */
  async flush(): Promise<void> {
    await this.#writing.run(() => this.#writeAll());
  }

  /** Sets no more deadlines, waits for what is being done to idle boxes, and writes the last uses. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#deadlines.close();
    await this.flush();
  }

  #of(boxId: string): BoxUse {
    const known = this.#boxes.get(boxId);
    if (known) return known;
    const box: BoxUse = {
      uses: new Set(),
      lastUsedAt: 0,
      rules: undefined,
      storedInUse: false,
    };
    this.#boxes.set(boxId, box);
    return box;
  }

  #ended(boxId: string, box: BoxUse): void {
    box.lastUsedAt = Date.now();
    if (box.uses.size > 0) return;
    if (!box.rules) {
      // Never stored, or removed.
      if (this.#boxes.get(boxId) === box) this.#boxes.delete(boxId);
      return;
    }
    this.#write(boxId, storeDelayMs);
    this.#deadlines.changed(boxId);
  }

  /** What is to be done next to a box that nobody uses. */
  #nextAction(boxId: string): { readonly action: IdleAction; readonly at: number } | undefined {
    const { uses, rules, lastUsedAt } = this.#boxes.get(boxId) ?? {};
    if (!uses || uses.size > 0 || !rules || lastUsedAt === undefined) return undefined;
    const { auto_stop, auto_stop_action, auto_delete } = rules;
    if (auto_stop > 0 && this.#needs.isRunning(boxId)) {
      const action = auto_stop_action === 'pause' ? 'pause' : 'stop';
      return { action, at: lastUsedAt + auto_stop * msPerSecond };
    }
    return auto_delete > 0 ? { action: 'remove', at: lastUsedAt + auto_delete * msPerSecond } : undefined;
  }

  #write(boxId: string, delayMs: number): void {
    this.#unwritten.add(boxId);
    this.#writeIn(delayMs);
  }

  #writeIn(delayMs: number): void {
    const atMs = Date.now() + delayMs;
    if (this.#isClosed || (this.#next && this.#next.atMs <= atMs)) return;
    clearTimeout(this.#next?.timer);
    const write = (): void => {
      this.flush().catch((error: unknown) => {
        this.#needs.logger.warn('cannot write when boxes were used', { reason: messageOf(error) });
        this.#writeIn(storeDelayMs);
      });
    };
    this.#next = { timer: setTimeout(write, delayMs).unref(), atMs };
  }

  async #writeAll(): Promise<void> {
    clearTimeout(this.#next?.timer);
    this.#next = undefined;
    const written: { readonly id: string; readonly box: BoxUse; readonly inUse: boolean }[] = [];
    for (const id of this.#unwritten) {
      const box = this.#boxes.get(id);
      if (box?.rules) written.push({ id, box, inUse: box.uses.size > 0 });
    }
    this.#unwritten.clear();
    if (written.length === 0) return;
    try {
      const uses = written.map(({ id, box, inUse }) => ({ id, inUse, lastUsedAt: box.lastUsedAt }));
      await storeUses(this.#needs.db, uses);
    } catch (error) {
      for (const { id } of written) this.#unwritten.add(id);
      throw error;
    }
    for (const { id, box, inUse } of written) {
      box.storedInUse = inUse;
      // A use that began or ended while this was written.
      if (inUse !== box.uses.size > 0) this.#write(id, inUse ? storeDelayMs : 0);
    }
  }
}
