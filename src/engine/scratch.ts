import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { faultPoint } from '../base/faults.js';
import { newId } from '../base/ids.js';

/** A folder for work in progress; it goes when it is disposed of. */
export interface ScratchFolder extends AsyncDisposable {
  readonly path: string;
}

/** The folder of a home for work in progress: on the same file system as the layers, so that files can move there. */
export class Scratch {
  readonly #directory: string;
  readonly #inUse = new Set<string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes a folder of one's own. Throws `storage_error` as file systems do. */
  async take(): Promise<ScratchFolder> {
    const name = newId('opn');
    const path = join(this.#directory, name);
    this.#inUse.add(name);
    await mkdir(path, { mode: 0o700 });
    faultPoint('scratch.create:after');
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        faultPoint('scratch.remove:before');
        await rm(path, { recursive: true, force: true });
        this.#inUse.delete(name);
      },
    };
  }

  /** Whether somebody still works in a folder. */
  isInUse(name: string): boolean {
    return this.#inUse.has(name);
  }
}
