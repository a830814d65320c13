import { mkdir, readlink, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { faultPoint } from '../../base/faults.js';
import { isId, newId } from '../../base/ids.js';
import { ownEntries } from '../../base/own-entries.js';
import { wrapHostError } from '../../errors.js';

/** A folder or file for work in progress; it is let go of when it is disposed of. */
export interface ScratchPlace extends AsyncDisposable {
  readonly path: string;
}

/** Whether a name in the folder is one that {@link Scratch} gives. */
export function isScratchName(name: string): boolean {
  return isId('opn', name);
}

/** In a scratch folder: a link to a file in the making elsewhere. */
const elsewhereLink = 'elsewhere';

/** The folder of a home for work in progress: on the same file system as the layers, so that files can move there. */
export class Scratch {
  readonly #directory: string;
  readonly #inUse = new Set<string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes a folder of one's own. Throws `disk_full`, `storage_error`. */
  async take(): Promise<ScratchPlace> {
    const name = newId('opn');
    const path = join(this.#directory, name);
    this.#inUse.add(name);
    await mkdir(path, { mode: 0o700 }).catch((error: unknown) => {
      this.#inUse.delete(name);
      throw wrapHostError(error, 'making a folder for work in progress');
    });
    faultPoint('scratch.create:after');
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        faultPoint('scratch.remove:before');
        try {
          await rm(path, { recursive: true, force: true });
        } finally {
          // What could not be removed is garbage from now on, and collected as such.
          this.#inUse.delete(name);
        }
      },
    };
  }

  /**
   * A name for a file in the making beside `target`, which may be outside of the home. Should the engine die before this
   * is disposed of, {@link clear} of the next one removes the file. (A file without a name would need no memory of it,
   * but Node cannot give it one afterwards: its `link` does not follow `/proc/self/fd`.)
   */
  async takeBeside(target: string): Promise<ScratchPlace> {
    const folder = await this.take();
    const path = partialPath(target, basename(folder.path));
    try {
      await symlink(path, join(folder.path, elsewhereLink));
    } catch (error) {
      await folder[Symbol.asyncDispose]();
      throw wrapHostError(error, 'preparing a file outside of the home');
    }
    return { path, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
  }

  /** Removes everything that an earlier engine left in the making. */
  async clear(): Promise<void> {
    for (const name of await ownEntries(this.#directory, isScratchName)) {
      const folder = join(this.#directory, name);
      const elsewhere = await readlink(join(folder, elsewhereLink)).catch(() => '');
      // A place that is out of reach by now must not keep the engine from starting.
      if (elsewhere.endsWith(partialPath('', name)))
        await rm(elsewhere, { force: true }).catch(() => undefined);
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Whether somebody still works in a folder. */
  isInUse(name: string): boolean {
    return this.#inUse.has(name);
  }
}

function partialPath(target: string, id: string): string {
  return `${target}.${id}.partial`;
}
