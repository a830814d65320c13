import type { AgentClient } from '../../guest/index.js';
import type { DiskSlot, Machine } from '../../machine/index.js';
import type { Gateway } from '../../network/index.js';
import { CommandLines } from './command-lines.js';
import { Gate } from './gate.js';
import { type LeaveReason, leaveError } from './leave.js';

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
  /** Whether the machine had got all its memory; to be asked when that has ended. */
  hasSupplied(): Promise<boolean>;
}

/** A main command that runs, or has ended. */
export interface MainState {
  hasEnded: boolean;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  end(): void;
  /** The record of its end. */
  recorded: Promise<void>;
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
  /** Its main command; absent where it has none. */
  main?: MainState | undefined;
  /**
   * `full`: the machine stands still because the disk of the host is full. `isWaiting`: it did, and has not been seen to
   * run for long enough since.
   */
  readonly disks: { full: boolean; isWaiting: boolean };
  /** Closed once the machine is about to end, or has ended. */
  readonly gate: Gate;
  /** The other end of its network card, where that is a process; replaced when it has ended. */
  gateway: Gateway | undefined;
  /** When it is ended because its lifetime is over, in milliseconds since 1970; absent: never. */
  endsAt?: number | undefined;
  /** Heads that it writes, and that could not be recorded after a capture that failed; absent: the database names them. */
  unrecorded?: Readonly<Partial<Record<DiskSlot, string>>> | undefined;
  /** Why the machine ends, or has ended; absent while nothing speaks for that. */
  leaves?: LeaveReason | undefined;
  /** Whether its guest has powered off by itself. */
  poweredOff?: boolean;
  /** Whether its guest has reset by itself: by a restart in order, or by a crash. */
  wasReset?: boolean;
  /** Why the rest of its memory never comes; absent while nothing speaks against it. */
  memoryLost?: string;
  /** What the guest's processors had done when they were last looked at. */
  readonly cpu: { last?: { readonly busyMs: number; readonly uptimeMs: number } };
}

/** A box whose machine has just come to run, or was taken over. */
export function newLiveBox(
  parts: Pick<LiveBox, 'boxId' | 'machineId' | 'machine' | 'agent' | 'run' | 'memory' | 'gateway'>,
): LiveBox {
  return {
    ...parts,
    commands: new CommandLines(),
    gate: new Gate(),
    disks: { full: false, isWaiting: false },
    cpu: {},
  };
}

/** Keeps new uses out of a machine that is about to end, and has those inside told why when it does. */
export function beginLeave(live: LiveBox, reason: LeaveReason): void {
  live.leaves ??= reason;
  live.gate.close();
  live.agent.endsWith(leaveError(live.boxId, live.leaves));
}

/** Ends the connection to the agent of a machine that ends. */
export function leave(live: LiveBox, reason: LeaveReason): void {
  beginLeave(live, reason);
  live.agent.close();
}

interface Waiting {
  resolve(live: LiveBox): void;
  reject(error: Error): void;
}

/** The boxes that run now. */
export class LiveBoxes {
  readonly #byId = new Map<string, LiveBox>();
  readonly #waiting = new Map<string, Set<Waiting>>();

  get(boxId: string): LiveBox | undefined {
    return this.#byId.get(boxId);
  }

  set(box: LiveBox): void {
    this.#byId.set(box.boxId, box);
    for (const { resolve } of this.#takeWaiting(box.boxId)) resolve(box);
  }

  /** The next machine of a paused box. Rejects when the box goes on from its memory no more, and when the signal is aborted. */
  next(boxId: string, signal: AbortSignal): Promise<LiveBox> {
    return new Promise((resolve, reject) => {
      const all = this.#waiting.get(boxId) ?? new Set();
      this.#waiting.set(boxId, all);
      const done = (): void => {
        signal.removeEventListener('abort', stop);
        all.delete(waiting);
        if (all.size === 0 && this.#waiting.get(boxId) === all) this.#waiting.delete(boxId);
      };
      const waiting: Waiting = {
        resolve: (live) => {
          done();
          resolve(live);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      const stop = (): void => waiting.reject(signal.reason as Error);
      all.add(waiting);
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  /** Says that a box without a machine goes on from its memory no more. */
  endWaiting(boxId: string, reason: LeaveReason): void {
    for (const { reject } of this.#takeWaiting(boxId)) reject(leaveError(boxId, reason));
  }

  /** Says so of all boxes: the engine closes. */
  close(): void {
    for (const boxId of [...this.#waiting.keys()]) this.endWaiting(boxId, 'closed');
  }

  #takeWaiting(boxId: string): Waiting[] {
    return [...(this.#waiting.get(boxId) ?? [])];
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
