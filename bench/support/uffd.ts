import { readFile, writeFile } from 'node:fs/promises';

const sysctl = '/proc/sys/vm/unprivileged_userfaultfd';

/** The host's permission for machines to use userfaultfd, given for as long as a case runs. */
export class UnprivilegedUffd {
  readonly #before: string;

  private constructor(before: string) {
    this.#before = before;
  }

  /** Needs root. */
  static async permit(): Promise<UnprivilegedUffd> {
    const before = await readFile(sysctl, 'utf8');
    await writeFile(sysctl, '1');
    return new UnprivilegedUffd(before);
  }

  async restore(): Promise<void> {
    await writeFile(sysctl, this.#before);
  }
}
