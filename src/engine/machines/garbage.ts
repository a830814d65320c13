import { join } from 'node:path';
import { isId } from '../../base/ids.js';
import { ownEntries } from '../../base/own-entries.js';
import { hostBootId, isAlive, isDirectoryInUse, killProcess, machinesBelow } from '../../machine/index.js';
import { allMachines, type Database, deleteMachine, type MachineRow } from '../../store/index.js';
import type { HomePaths } from '../core/home.js';

/**
 * What machines left that this engine does not have: a process, a directory, a row. Whatever keeps an end from being
 * completed, the rest of it is done here.
 */
export class MachineGarbage {
  readonly #needs: { readonly db: Database; readonly paths: HomePaths };
  #isRecovered = false;

  constructor(needs: { readonly db: Database; readonly paths: HomePaths }) {
    this.#needs = needs;
  }

  /** Says that the engine has taken over all machines that an earlier one left and that it wants: the others are garbage. */
  recovered(): void {
    this.#isRecovered = true;
  }

  /**
   * Ends the machines that nobody has, and strikes off those that have ended; changes nothing with `dryRun`. Returns the
   * names of the directories that nobody needs, those of machines that have not ended yet left out.
   */
  async collect({ dryRun }: { readonly dryRun: boolean }): Promise<string[]> {
    if (!this.#isRecovered) return [];
    const { db, paths } = this.#needs;
    const isOwned = (name: string): boolean => isDirectoryInUse(join(paths.machines, name));
    // Listed first: a machine that is started later has another name.
    const names = await ownEntries(paths.machines, (name) => isId('mch', name) && !isOwned(name));
    const rows = (await allMachines(db)).filter(({ id }) => !isOwned(id));
    if (names.length === 0 && rows.length === 0) return [];
    const alive = await this.#endRunning(rows, isOwned, dryRun);
    const ended = rows.filter(({ id }) => !alive.has(id));
    if (!dryRun) for (const { id } of ended) await deleteMachine(db, id);
    return names.filter((name) => !alive.has(name));
  }

  /** Kills what runs of machines that nobody has, and returns their names: they are collected when they have ended. */
  async #endRunning(
    rows: readonly MachineRow[],
    isOwned: (name: string) => boolean,
    dryRun: boolean,
  ): Promise<Set<string>> {
    const found = await machinesBelow(this.#needs.paths.machines);
    const thisBoot = await hostBootId();
    const running = [
      ...found.filter(({ name }) => !isOwned(name)),
      ...rows
        .filter(({ host_boot }) => host_boot === thisBoot)
        .map((row) => ({ name: row.id, process: { pid: row.pid, startTicks: row.start_ticks } })),
    ];
    const alive = new Set<string>();
    for (const { name, process } of running) {
      if (!(await isAlive(process))) continue;
      alive.add(name);
      if (!dryRun) await killProcess(process);
    }
    return alive;
  }
}
