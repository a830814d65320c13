import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { hostArchitecture } from '../../src/machine/architectures.js';
import { QmpClient } from '../../src/machine/qmp.js';

/** What a small test machine is started as. */
export interface MiniMachineOptions {
  /** A directory of its own; created. */
  readonly directory: string;
  readonly memoryMiB: number;
  /** The backing of its RAM, for `-object`, without id and size. */
  readonly memory: string;
  /** Boots this; absent: waits for a migration. */
  readonly boot?: { readonly kernel: string; readonly initramfs: string };
  readonly extraArguments?: readonly string[];
}

/** Longest wait for a guest's answer; TCG on a busy host is slow. */
const guestTimeoutMs = 45_000;

/** A QEMU with a serial console that runs shell lines, driven over QMP. */
export class MiniMachine {
  readonly qmp: QmpClient;
  readonly directory: string;
  readonly pid: number;
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #console: Socket;
  #text = '';
  #stderr = '';

  private constructor(child: ChildProcess, qmp: QmpClient, console: Socket, directory: string) {
    this.#child = child;
    this.qmp = qmp;
    this.#console = console;
    this.directory = directory;
    this.pid = child.pid ?? 0;
    this.exited = once(child, 'exit').then(() => undefined);
    console.on('data', (data: Buffer) => {
      this.#text += data.toString('latin1');
    });
    console.on('error', () => undefined);
    child.stderr?.on('data', (data: Buffer) => {
      this.#stderr += data.toString();
    });
  }

  static async start(options: MiniMachineOptions): Promise<MiniMachine> {
    await mkdir(options.directory);
    const child = spawn(hostArchitecture().qemuBinary, machineArguments(options), {
      cwd: options.directory,
      // Control session and console are inherited sockets: nothing to wait for, nothing to connect to.
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
    });
    const [, , , control, console] = child.stdio as unknown as Socket[];
    if (!control || !console) throw new Error('no inherited sockets');
    const qmp = await QmpClient.attach(control).catch((error: unknown) => {
      child.kill('SIGKILL');
      throw error;
    });
    return new MiniMachine(child, qmp, console, options.directory);
  }

  /** What QEMU wrote on stderr. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Waits for the end of the boot. */
  async ready(): Promise<void> {
    await this.#until(/<ready>/);
    this.#text = '';
  }

  /** Runs a shell line in the guest and returns its output; fails unless it exits with 0. */
  async run(line: string): Promise<string> {
    this.#text = '';
    this.#console.write(`${line}\n`);
    const match = await this.#until(/^([\s\S]*?)<done:(\d+)>/);
    if (match[2] !== '0') throw new Error(`guest: ${line}: exit ${match[2]}: ${match[1]}`);
    return (match[1] ?? '').replaceAll('\r', '').trim();
  }

  async kill(): Promise<void> {
    this.qmp.close();
    this.#console.destroy();
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  async #until(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(guestTimeoutMs);
    for (;;) {
      const match = pattern.exec(this.#text);
      if (match) return match;
      try {
        await once(this.#console, 'data', { signal: deadline });
      } catch (error) {
        throw new Error(`the guest did not print ${pattern}: ${this.#text.slice(-500)} ${this.#stderr}`, {
          cause: error,
        });
      }
    }
  }
}

function machineArguments(options: MiniMachineOptions): string[] {
  const { boot, memoryMiB, memory } = options;
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-S'],
    ...['-machine', 'pc-q35-7.2,memory-backend=mem', '-accel', 'tcg,thread=multi,tb-size=64'],
    ...['-smp', '1', '-m', `${memoryMiB}M`, '-object', `${memory},id=mem,size=${memoryMiB}M`],
    ...['-chardev', 'socket,id=control,fd=3', '-mon', 'chardev=control,mode=control'],
    ...['-chardev', 'socket,id=console,fd=4', '-serial', 'chardev:console'],
    ...(boot
      ? ['-kernel', boot.kernel, '-initrd', boot.initramfs, '-append', 'console=ttyS0 quiet rdinit=/init']
      : ['-incoming', 'defer']),
    ...(options.extraArguments ?? []),
  ];
}
