import { setTimeout as delay } from 'node:timers/promises';
import { packageVersion } from '../base/version.js';
import { CryoboxError } from '../errors.js';
import type { EngineControl, EngineKind } from '../server/index.js';

/** What is under way gets so long before the one who wants the home is told what it is. */
const handOverWaitMs = 10_000;
const lookAgainMs = 20;

/** Says which engine this is, and lets go of its home when it is asked to and may. */
export class Handover implements EngineControl {
  readonly hello: EngineControl['hello'];
  /** Resolves when the engine was asked for its home and is to close now. */
  readonly wanted: Promise<void>;
  readonly #underWay: () => readonly string[];
  #agree: () => void = () => undefined;

  constructor(kind: EngineKind, underWay: () => readonly string[]) {
    this.hello = { version: packageVersion(), pid: process.pid, kind };
    this.#underWay = underWay;
    this.wanted = new Promise((resolve) => {
      this.#agree = resolve;
    });
  }

  async handOver(signal: AbortSignal): Promise<void> {
    this.#requireBackground();
    const deadline = performance.now() + handOverWaitMs;
    // Operations end by themselves; there is one place to ask what they are, and no event for it.
    for (let busy = this.#underWay(); busy.length > 0; busy = this.#underWay()) {
      if (performance.now() > deadline) throw busyError(busy);
      await delay(lookAgainMs, undefined, { signal }).catch((error: unknown) => {
        throw new CryoboxError('cancelled', 'the handover was cancelled', { cause: error });
      });
    }
    this.#agree();
  }

  #requireBackground(): void {
    const { kind, pid } = this.hello;
    if (kind === 'serve') {
      throw new CryoboxError('home_in_use', `\`cryobox serve\` (process ${pid}) owns this home`, {
        hint: 'Connect to it with --url, end it with `cryobox engine stop`, or choose another home.',
        details: { pid, kind },
      });
    }
    if (kind === 'in-process') {
      throw new CryoboxError('home_in_use', `a program (process ${pid}) has the engine of this home in it`, {
        hint: 'End that program, or choose another home.',
        details: { pid, kind },
      });
    }
  }
}

function busyError(busy: readonly string[]): CryoboxError {
  const what = [...new Set(busy)].join(', ');
  return new CryoboxError('home_in_use', `the engine of this home has not finished: ${what}`, {
    hint: 'Try again when that has ended, or stop the engine with `cryobox engine stop`; boxes go on.',
    details: { underWay: [...busy] },
  });
}
