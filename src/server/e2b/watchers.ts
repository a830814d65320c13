import { randomUUID } from 'node:crypto';
import type { FileWatch } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { filesystemEvents, type Watched } from './envd/file-events.js';
import type { FilesystemEvent } from './envd/filesystem-messages.js';

/** Events that wait for a client that polls: one that asks each second keeps up with thousands. */
const maxWaiting = 20_000;
/** A watcher that nobody asked for so long has no client any more: it would hold one of the box's watches. */
const maxUnaskedMs = 3_600_000;

/** Watchers of one sandbox, those that have ended among them: each may hold as many events. */
const maxOfBox = 64;

/** A watched directory whose events a client comes for. */
interface Watcher {
  readonly boxId: string;
  readonly watch: FileWatch;
  readonly waiting: FilesystemEvent[];
  /** Why there are no more events. */
  failure: unknown;
  readonly timer: NodeJS.Timeout;
}

/** The watchers of all sandboxes that clients poll. */
export class Watchers {
  readonly #byId = new Map<string, Watcher>();

  /** Takes in a watch; gives the id of its watcher. Throws `resource_exhausted`, and closes the watch, where a sandbox has too many. */
  add(boxId: string, watch: FileWatch, watched: Watched): string {
    if ([...this.#byId.values()].filter((each) => each.boxId === boxId).length >= maxOfBox) {
      watch.close().catch(() => undefined);
      throw new CryoboxError('resource_exhausted', `the sandbox has ${maxOfBox} watchers already`, {
        hint: 'Remove watchers that nobody asks any more.',
      });
    }
    const id = randomUUID();
    const timer = setTimeout(() => this.#end(id), maxUnaskedMs).unref();
    const watcher: Watcher = { boxId, watch, waiting: [], failure: undefined, timer };
    this.#byId.set(id, watcher);
    collect(watcher, watched).catch((error: unknown) => {
      watcher.failure = error;
    });
    return id;
  }

  /**
   * What has happened since the last time. Throws `not_found` for an unknown watcher, and once what is waiting was given, why
   * there is no more.
   */
  take(boxId: string, id: string): FilesystemEvent[] {
    const watcher = this.#require(boxId, id);
    watcher.timer.refresh();
    if (watcher.waiting.length === 0 && watcher.failure !== undefined) throw watcher.failure;
    return watcher.waiting.splice(0);
  }

  /** Ends a watcher. Throws `not_found`. */
  remove(boxId: string, id: string): void {
    this.#require(boxId, id);
    this.#end(id);
  }

  #require(boxId: string, id: string): Watcher {
    const watcher = this.#byId.get(id);
    if (watcher?.boxId === boxId) return watcher;
    throw new CryoboxError('not_found', `watcher with id ${id} not found`);
  }

  #end(id: string): void {
    const watcher = this.#byId.get(id);
    if (!watcher) return;
    this.#byId.delete(id);
    clearTimeout(watcher.timer);
    // Closing what has ended does nothing.
    watcher.watch.close().catch(() => undefined);
  }
}

async function collect({ watch, waiting }: Watcher, watched: Watched): Promise<void> {
  for await (const event of watch) {
    waiting.push(...(await filesystemEvents(watched, event)));
    if (waiting.length <= maxWaiting) continue;
    throw new CryoboxError(
      'resource_exhausted',
      `more than ${maxWaiting} events were not asked for in time`,
      {
        hint: 'List the directory, and watch it again.',
      },
    );
  }
}
