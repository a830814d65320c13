import type { AgentClient } from '../guest/index.js';
import type { Machine } from '../machine/index.js';
import { CommandLines } from './exec/command-lines.js';

/** Where the memory of a running machine came from: what its next capture is compared with. */
export interface MachineMemory {
  /** The flat layer it maps; null: its memory is its own, and came from a page server. */
  readonly baseLayer: string | null;
  /** What it was restored from or last captured as; null: the golden machine whose memory is `baseLayer`. */
  memoryId: string | null;
  /** The process that supplies it, while it does. */
  readonly pager?: Pager | undefined;
}

/** A process that supplies a machine's memory. */
export interface Pager {
  /** Tells it that the box is in use: the working set is written down, and the rest of memory follows. */
  settle(): void;
  /** Resolves when it has ended, after its machine. */
  end(): Promise<void>;
}

/** A box whose machine runs. */
export interface LiveBox {
  readonly boxId: string;
  readonly machineId: string;
  readonly machine: Machine;
  readonly agent: AgentClient;
  /** A number that exists only in the box's memory. */
  readonly run: string;
  readonly memory: MachineMemory;
  readonly commands: CommandLines;
  /** What the guest's processors had done when they were last looked at. */
  readonly cpu: { last?: { readonly busyMs: number; readonly uptimeMs: number } };
}

/** A box whose machine has just come to run, or was taken over. */
export function newLiveBox(
  parts: Pick<LiveBox, 'boxId' | 'machineId' | 'machine' | 'agent' | 'run' | 'memory'>,
): LiveBox {
  return { ...parts, commands: new CommandLines(), cpu: {} };
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
