import type { BoxInfo, Runtime } from '../../api/index.js';
import type { Cuts } from '../../base/cuts.js';
import type { Logger } from '../../base/log.js';
import { isCryoboxError, messageOf } from '../../errors.js';
import { factsOf } from './facts.js';

/** The longest a timer of Node waits. */
const maxTimerMs = 2 ** 31 - 1;
/** When the end of a sandbox fails, it is tried again after this. */
const retryMs = 10_000;

interface Life {
  readonly tenant: string;
  readonly endsAt: number;
  readonly timer: NodeJS.Timeout;
}

/** When sandboxes end, whether they are used or not: then they are removed or paused. */
export class Lives {
  readonly #lives = new Map<string, Life>();
  readonly #options: {
    readonly runtimeFor: (tenant: string) => Runtime;
    readonly cuts: Cuts;
    readonly logger: Logger;
  };

  constructor(options: {
    readonly runtimeFor: (tenant: string) => Runtime;
    readonly cuts: Cuts;
    readonly logger: Logger;
  }) {
    this.#options = options;
  }

  /** Lets a sandbox end that many seconds from now. */
  renew(tenant: string, info: Pick<BoxInfo, 'id'>, seconds: number): void {
    this.#set(tenant, info.id, Date.now() + seconds * 1000);
  }

  /** As {@link renew}, but never earlier than it would have ended. */
  extend(tenant: string, info: Pick<BoxInfo, 'id'>, seconds: number): void {
    const known = this.#lives.get(info.id)?.endsAt ?? 0;
    this.#set(tenant, info.id, Math.max(known, Date.now() + seconds * 1000));
  }

  /**
   * When a sandbox ends; undefined when it does not. One that this server has not seen yet lives its whole time from now
   * on.
   */
  endOf(tenant: string, info: BoxInfo): Date | undefined {
    const { timeout, endless } = factsOf(info);
    if (endless && !this.#lives.has(info.id)) return undefined;
    if (info.status === 'paused') return info.updatedAt;
    if (!this.#lives.has(info.id)) this.renew(tenant, info, timeout);
    return new Date(this.#lives.get(info.id)?.endsAt ?? 0);
  }

  /** A sandbox does not run any more: nothing ends. */
  forget(boxId: string): void {
    clearTimeout(this.#lives.get(boxId)?.timer);
    this.#lives.delete(boxId);
  }

  /** Ends nothing any more. */
  close(): void {
    for (const id of [...this.#lives.keys()]) this.forget(id);
  }

  #set(tenant: string, boxId: string, endsAt: number, waitMs = endsAt - Date.now()): void {
    this.forget(boxId);
    const timer = setTimeout(
      () => {
        this.#end(boxId).catch((error: unknown) => {
          this.#options.logger.warn('a sandbox cannot be ended', { box: boxId, error: messageOf(error) });
          this.#set(tenant, boxId, endsAt, retryMs);
        });
      },
      Math.max(0, Math.min(maxTimerMs, waitMs)),
    ).unref();
    this.#lives.set(boxId, { tenant, endsAt, timer });
  }

  async #end(boxId: string): Promise<void> {
    const life = this.#lives.get(boxId);
    if (!life) return;
    if (life.endsAt > Date.now()) return this.#set(life.tenant, boxId, life.endsAt);
    const box = await this.#options.runtimeFor(life.tenant).get(boxId);
    const info = await box?.info();
    if (box && info) {
      this.#options.cuts.cut(boxId);
      if (factsOf(info).onTimeout === 'kill') await box.remove({ force: true });
      else await box.pause().catch(unlessLegal);
    }
    if (this.#lives.get(boxId) === life) this.forget(boxId);
  }
}

/** It may have stopped or been paused meanwhile. */
function unlessLegal(error: unknown): void {
  if (!isCryoboxError(error, 'invalid_state')) throw error;
}
