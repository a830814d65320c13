import type { Runtime } from '../../api/index.js';
import { Cuts } from '../../base/cuts.js';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';

/** Changes of a box after which nothing of it is to be reached any more. */
const endings = new Set(['paused', 'stopped', 'failed', 'removed']);

interface Reader {
  /** Streams that it watches for. */
  streams: number;
  readonly stop: AbortController;
}

/**
 * Streams to sandboxes, which are cut off when their sandbox ends, whoever ends it: E2B's clients wait for that. One reader
 * of events serves all streams of a tenant, as long as there are any.
 */
export class OpenStreams {
  readonly #cuts = new Cuts();
  readonly #readers = new Map<string, Reader>();
  readonly #needs: { readonly runtimeFor: (tenant: string) => Runtime; readonly logger: Logger };

  constructor(needs: { readonly runtimeFor: (tenant: string) => Runtime; readonly logger: Logger }) {
    this.#needs = needs;
  }

  /** A stream that is open from now on: its signal is raised when it is to be cut off. To be disposed of at its end. */
  add(tenant: string, boxId: string): { readonly signal: AbortSignal } & Disposable {
    const reader = this.#readers.get(tenant) ?? this.#read(tenant);
    reader.streams += 1;
    const cut = this.#cuts.add(boxId);
    let isOpen = true;
    const end = (): void => {
      if (!isOpen) return;
      isOpen = false;
      cut[Symbol.dispose]();
      reader.streams -= 1;
      if (reader.streams > 0) return;
      this.#readers.delete(tenant);
      reader.stop.abort();
    };
    return { signal: cut.signal, [Symbol.dispose]: end };
  }

  /** Cuts off the streams to a sandbox that is about to end. */
  cut(boxId: string): void {
    this.#cuts.cut(boxId);
  }

  #read(tenant: string): Reader {
    const reader: Reader = { streams: 0, stop: new AbortController() };
    this.#readers.set(tenant, reader);
    // The reader's place in the events is taken here: nothing that happens from now on is missed.
    const events = this.#needs.runtimeFor(tenant).events({ signal: reader.stop.signal });
    const follow = async (): Promise<void> => {
      for await (const { kind, id, change } of events) {
        if (kind === 'box' && endings.has(change)) this.#cuts.cut(id);
      }
    };
    inBackground(follow(), 'watch for the ends of sandboxes', this.#needs.logger);
    return reader;
  }
}
