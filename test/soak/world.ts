import { objection } from '../control/outcomes.js';
import { Certainty } from './certainty.js';

/** What is known of one box. */
export interface KnownBox {
  /** Lines that are in its files for certain. */
  readonly lines: Certainty;
  /** Whether a process of it was killed: going on from its memory may take it back from then on. */
  killed: boolean;
}

/** What is known of one snapshot of a box. */
export interface KnownSnapshot {
  readonly there: Certainty;
  /** Lines that the box had when it was taken, for certain. */
  lines: readonly string[];
}

/** What is under way, and since when. */
interface UnderWay {
  readonly what: string;
  readonly since: number;
}

/** What all clients of a soak know together, and what they found wrong. */
export class World {
  /** Operations that ended, by name, and how. */
  readonly outcomes = new Map<string, Map<string, number>>();
  /** Whatever was confirmed and is not there. */
  readonly lost: string[] = [];
  /** Outcomes that must not be. */
  readonly wrong: string[] = [];
  faults = 0;
  readonly #boxes = new Map<string, KnownBox>();
  readonly #snapshots = new Map<string, KnownSnapshot>();
  readonly #things = new Map<string, Certainty>();
  readonly #underWay = new Set<UnderWay>();

  /** What is known of the box with this id. */
  box(id: string): KnownBox {
    const known = this.#boxes.get(id) ?? { lines: new Certainty(), killed: false };
    this.#boxes.set(id, known);
    return known;
  }

  /** What is known of a snapshot. */
  snapshot(boxId: string, name: string): KnownSnapshot {
    const key = `${boxId} ${name}`;
    const known = this.#snapshots.get(key) ?? { there: new Certainty(), lines: [] };
    this.#snapshots.set(key, known);
    return known;
  }

  /** Boxes, templates and volumes by kind and name: whether they are there for certain. */
  thing(kind: 'box' | 'template' | 'volume', name: string): Certainty {
    const key = `${kind} ${name}`;
    const known = this.#things.get(key) ?? new Certainty();
    this.#things.set(key, known);
    return known;
  }

  /** How many operations were done. */
  get operations(): number {
    return [...this.outcomes.values()].reduce((sum, codes) => sum + (codes.get('done') ?? 0), 0);
  }

  /** Runs one operation, counts how it ended, and judges it. Returns `done` or the code that it failed with. */
  async run(name: string, task: () => Promise<unknown>): Promise<string> {
    const entry = { what: name, since: performance.now() };
    this.#underWay.add(entry);
    let outcome = 'done';
    try {
      await task();
    } catch (error) {
      outcome = (error as { code?: string }).code ?? 'thrown';
      const wrong = objection(name, error, { others: true, machinesDie: true, engineDies: true });
      if (wrong !== undefined) this.wrong.push(wrong);
    } finally {
      this.#underWay.delete(entry);
    }
    const codes = this.outcomes.get(name) ?? new Map<string, number>();
    codes.set(outcome, (codes.get(outcome) ?? 0) + 1);
    this.outcomes.set(name, codes);
    return outcome;
  }

  /** What has been under way for longer than anything may take. */
  hanging(limitMs: number): string[] {
    const now = performance.now();
    return [...this.#underWay].filter(({ since }) => now - since > limitMs).map(({ what }) => what);
  }
}
