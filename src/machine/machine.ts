import { chmod, chown, link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf, wrapHostError } from '../errors.js';
import { type MachineSpec, machineFiles } from './arguments.js';
import { ConsoleLog } from './console.js';
import { letGoOfDirectory, removeDirectory, takeDirectory } from './directory.js';
import { launchQemu, type MachineUser } from './launch.js';
import { endProcess, isAlive, type ProcessIdentity, untilEnded } from './process.js';
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
/** QEMU closes its control session a moment before it has ended. */
const endGraceMs = 1_000;

/** One QEMU process, its private directory and its control session. */
export class Machine {
  readonly directory: string;
  readonly process: ProcessIdentity;
  readonly qmp: QmpClient;
  readonly console = new ConsoleLog();
  readonly user: MachineUser | undefined;
  /**
   * Resolves when QEMU's process has ended, for whatever reason: only then its disks are nobody's. Never rejects; does not
   * resolve after {@link disconnect}.
   */
  readonly exited: Promise<void>;
  readonly #ended: Promise<void>;
  #isConnected = true;

  private constructor(
    directory: string,
    process: ProcessIdentity,
    qmp: QmpClient,
    { user, ended }: { readonly user: MachineUser | undefined; readonly ended: Promise<void> },
  ) {
    this.directory = directory;
    this.process = process;
    this.qmp = qmp;
    this.user = user;
    this.#ended = ended;
    this.exited = this.#watch();
  }

  /**
   * Starts QEMU. Throws `machine_failed`, `disk_full`, `config_error` when a program is missing, `resource_exhausted` when
   * the host is at a limit. Nothing is left behind then, no process either.
   */
  static async launch(options: MachineLaunch): Promise<Machine> {
    const { directory, user } = options;
    takeDirectory(directory);
    try {
      await mkdir(directory, { mode: 0o700 });
      for (const file of options.files) await place(directory, file, user);
      const timeoutMs = options.timeoutMs ?? launchTimeoutMs;
      const { process, child, qmp } = await launchQemu({ ...options, timeoutMs });
      const ended = child.exited.then(() => undefined);
      try {
        return await Machine.#opened(new Machine(directory, process, qmp, { user, ended }));
      } catch (error) {
        child.kill();
        await endProcess(process, ended);
        throw error;
      }
    } catch (error) {
      await removeDirectory(directory);
      letGoOfDirectory(directory);
      throw wrapHostError(error, 'starting a machine', 'machine_failed');
    }
  }

  /** Takes over a machine that an earlier engine started. Throws `machine_failed` when it does not answer. */
  static async adopt(directory: string, process: ProcessIdentity, user?: MachineUser): Promise<Machine> {
    const qmp = await QmpClient.connect(join(directory, machineFiles.qmpSocket));
    takeDirectory(directory);
    // Nobody tells of the end of a process that another one started; it is looked at from when its session ends.
    const ended = qmp.closed.then(() => untilEnded(process));
    return await Machine.#opened(new Machine(directory, process, qmp, { user, ended }));
  }

  static async #opened(machine: Machine): Promise<Machine> {
    try {
      await machine.console.follow(join(machine.directory, machineFiles.consoleSocket));
      return machine;
    } catch (error) {
      machine.disconnect();
      throw wrapHostError(error, 'following the console of a machine', 'machine_failed');
    }
  }

  /** A machine whose control session has ended can do nothing more for its box: it is ended, so that another one can. */
  async #watch(): Promise<void> {
    await this.qmp.closed;
    if (!this.#isConnected) return await new Promise(() => undefined);
    const ended = this.#ended.then(() => true);
    const inTime = await Promise.race([ended, delay(endGraceMs, false, { ref: false })]);
    // Whatever keeps it from ending: until it has, its disks are its own.
    if (!inTime) await endProcess(this.process, this.#ended).catch(() => undefined);
    await this.#ended;
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

  /**
   * Ends QEMU at once, waits for its end, and removes its directory. The files linked into it stay where they are. Throws
   * `machine_failed` when the process does not end; everything is left as it is then.
   */
  async kill(): Promise<void> {
    await endProcess(this.process, this.#ended);
    await this.release();
  }

  /** Removes what a machine that has ended leaves behind, later where the host refuses that now. Never fails. */
  async release(): Promise<void> {
    this.disconnect();
    await removeDirectory(this.directory);
  }

  /** Lets go of the machine; it goes on. */
  disconnect(): void {
    this.#isConnected = false;
    letGoOfDirectory(this.directory);
    this.console.close();
    this.qmp.close();
  }

  /** Whether the process lives and can be told what to do. */
  async isAlive(): Promise<boolean> {
    return this.qmp.isOpen && (await isAlive(this.process));
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
