import type { AgentClient } from '../guest/index.js';
import type { Machine } from '../machine/index.js';

/** A box whose machine runs. */
export interface LiveBox {
  readonly boxId: string;
  readonly machineId: string;
  readonly machine: Machine;
  readonly agent: AgentClient;
  /** A number that exists only in the box's memory. */
  readonly run: string;
  /** Command lines of executions started by this engine, by id; the agent keeps the first word only. */
  readonly commands: Map<string, readonly string[]>;
  /** What the guest's processors had done when they were last looked at. */
  readonly cpu: { last?: { readonly busyMs: number; readonly uptimeMs: number } };
}

/** A box whose machine has just come to run, or was taken over. */
export function newLiveBox(
  parts: Pick<LiveBox, 'boxId' | 'machineId' | 'machine' | 'agent' | 'run'>,
): LiveBox {
  return { ...parts, commands: new Map(), cpu: {} };
}

/** The boxes that run now. */
export class LiveBoxes {
  readonly #byId = new Map<string, LiveBox>();

  get(boxId: string): LiveBox | undefined {
    return this.#byId.get(boxId);
  }

  set(box: LiveBox): void {
    this.#byId.set(box.boxId, box);
  }

  /** Forgets a box, but only if it still is this one. */
  delete(box: LiveBox): boolean {
    if (this.#byId.get(box.boxId) !== box) return false;
    return this.#byId.delete(box.boxId);
  }

  all(): LiveBox[] {
    return [...this.#byId.values()];
  }
}
