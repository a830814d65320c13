import { chmod, chown, link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, wrapHostError } from '../errors.js';
import { type MachineSpec, machineFiles } from './arguments.js';
import { ConsoleLog } from './console.js';
import { launchQemu, type MachineUser } from './launch.js';
import { isAlive, killProcess, type ProcessIdentity } from './process.js';
import { QmpClient } from './qmp.js';

/** A file a machine may open, hard-linked into its directory. */
export interface MachineFile {
  /** Where the file is. Must be on the same file system as the machine's directory. */
  readonly path: string;
  /** What it is called in the machine's directory. */
  readonly name: string;
  /** Whether the machine writes it: the file is then given to the machine's user. */
  readonly writable: boolean;
}

/** What a machine is launched with. */
export interface MachineLaunch {
  /** Private directory, made here and removed by {@link Machine.kill}. */
  readonly directory: string;
  readonly spec: MachineSpec;
  readonly qemuPath: string;
  readonly files: readonly MachineFile[];
  readonly user?: MachineUser;
  /** @default 20000 */
  readonly timeoutMs?: number;
}

/** Starting QEMU takes some 30 ms; a busy host may need far longer. */
const launchTimeoutMs = 20_000;

/** One QEMU process, its private directory and its control session. */
export class Machine {
  readonly directory: string;
  readonly process: ProcessIdentity;
  readonly qmp: QmpClient;
  readonly console = new ConsoleLog();
  readonly user: MachineUser | undefined;

  private constructor(
    directory: string,
    process: ProcessIdentity,
    qmp: QmpClient,
    user: MachineUser | undefined,
  ) {
    this.directory = directory;
    this.process = process;
    this.qmp = qmp;
    this.user = user;
  }

  /** Starts QEMU. Nothing is left behind when it fails: `machine_failed`, `disk_full`. */
  static async launch(options: MachineLaunch): Promise<Machine> {
    const { directory, user } = options;
    try {
      await mkdir(directory, { mode: 0o700 });
      for (const file of options.files) await place(directory, file, user);
      const timeoutMs = options.timeoutMs ?? launchTimeoutMs;
      const launched = await launchQemu({ ...options, timeoutMs });
      return await Machine.#opened(directory, launched.process, launched.qmp, user);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw wrapHostError(error, 'starting a machine', 'machine_failed');
    }
  }

  /** Takes over a machine that an earlier engine started. Throws `machine_failed` when it does not answer. */
  static async adopt(directory: string, process: ProcessIdentity, user?: MachineUser): Promise<Machine> {
    const qmp = await QmpClient.connect(join(directory, machineFiles.qmpSocket));
    return await Machine.#opened(directory, process, qmp, user);
  }

  static async #opened(
    directory: string,
    process: ProcessIdentity,
    qmp: QmpClient,
    user: MachineUser | undefined,
  ): Promise<Machine> {
    const machine = new Machine(directory, process, qmp, user);
    await machine.console.follow(join(directory, machineFiles.consoleSocket));
    return machine;
  }

  /** Resolves when QEMU has ended, for whatever reason. */
  get exited(): Promise<void> {
    return this.qmp.closed;
  }

  /** The socket the agent is reached through. */
  get agentSocket(): string {
    return join(this.directory, machineFiles.agentSocket);
  }

  /** Gives the machine one more file. */
  async place(file: MachineFile): Promise<void> {
    await place(this.directory, file, this.user);
  }

  /** Takes a file away from the machine; it stays where it is. */
  async takeAway(name: string): Promise<void> {
    await rm(join(this.directory, name), { force: true });
  }

  /** Lets the virtual processors run. */
  async run(): Promise<void> {
    await this.qmp.execute('cont');
  }

  /** Makes the virtual processors stand still. */
  async halt(): Promise<void> {
    await this.qmp.execute('stop');
  }

  /** Ends QEMU at once, and removes its directory. The files linked into it stay where they are. */
  async kill(): Promise<void> {
    await killProcess(this.process);
    await this.qmp.closed;
    await this.release();
  }

  /** Removes what a machine that has ended leaves behind. */
  async release(): Promise<void> {
    this.disconnect();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Lets go of the machine; it goes on. */
  disconnect(): void {
    this.console.close();
    this.qmp.close();
  }

  /** Whether the process of an adopted or launched machine still lives. */
  async isAlive(): Promise<boolean> {
    return await isAlive(this.process);
  }
}

async function place(directory: string, file: MachineFile, user: MachineUser | undefined): Promise<void> {
  if (file.writable) {
    if (user) await chown(file.path, user.uid, user.gid);
    await chmod(file.path, 0o600);
  }
  await link(file.path, join(directory, file.name)).catch((error: unknown) => {
    // The same file was placed already: names are ids, and an id is never given twice.
    if (errnoOf(error) !== 'EEXIST') throw error;
  });
}
