import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, open, readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { faultPoint } from '../base/faults.js';
import { CryoboxError, messageOf } from '../errors.js';
import { controlFd, type MachineSpec, machineFiles, qemuArguments } from './arguments.js';
import { identify, type ProcessIdentity } from './process.js';
import { QmpClient } from './qmp.js';

/** Who a machine runs as when the engine is root. */
export interface MachineUser {
  readonly uid: number;
  readonly gid: number;
}

/** What a launch needs to know. */
export interface LaunchOptions {
  readonly spec: MachineSpec;
  readonly qemuPath: string;
  /** The machine's private directory, with everything it may open already in it. */
  readonly directory: string;
  /** Absent: the engine is not root, and the machine runs as the engine's user. */
  readonly user?: MachineUser;
  readonly timeoutMs: number;
}

/** A QEMU that answers. */
export interface LaunchedQemu {
  readonly process: ProcessIdentity;
  readonly qmp: QmpClient;
}

/** Limits of the QEMU process: no core dumps of guest memory, and files enough for deep disk chains and sockets. */
const resourceLimits = ['--core=0', '--nofile=1024:1024'];

/** What is kept of QEMU's own messages in an error. */
const stderrTailBytes = 4096;

/**
 * Starts QEMU in its private directory and waits for its control session. It outlives this process.
 * Throws `machine_failed` with QEMU's words when it ends or does not answer in time.
 */
export async function launchQemu(options: LaunchOptions): Promise<LaunchedQemu> {
  faultPoint('machine.launch:before');
  const child = await spawnQemu(options);
  faultPoint('machine.launch:after');
  const exited = once(child, 'exit').then(([code, signal]: unknown[]) => `it ended with ${code ?? signal}`);
  try {
    const pid = await spawned(child);
    const channel = child.stdio[controlFd] as Socket;
    const qmp = await Promise.race([
      QmpClient.attach(channel, options.timeoutMs),
      exited.then((how) => Promise.reject(new CryoboxError('machine_failed', how))),
    ]);
    await requireGuard(options, pid);
    const process = await identify(pid);
    if (!process) throw new CryoboxError('machine_failed', await exited);
    child.unref();
    return { process, qmp };
  } catch (error) {
    child.kill('SIGKILL');
    const words = await stderrTail(options.directory);
    throw new CryoboxError(
      'machine_failed',
      `cannot start QEMU: ${messageOf(error)}${words ? `\n${words}` : ''}`,
      {
        cause: error,
      },
    );
  }
}

async function spawnQemu({ spec, qemuPath, directory, user }: LaunchOptions): Promise<ChildProcess> {
  if (user) await chown(directory, user.uid, user.gid);
  const stderr = await open(join(directory, machineFiles.stderr), 'a', 0o600);
  try {
    // The working directory is entered before the user changes, so a home that others cannot reach stays so:
    // the machine sees this one directory of it, by relative names.
    return spawn('prlimit', [...resourceLimits, '--', qemuPath, ...qemuArguments(spec)], {
      cwd: directory,
      detached: true,
      stdio: ['ignore', stderr.fd, stderr.fd, 'pipe'],
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', LD_PRELOAD: `./${machineFiles.guard}` },
      ...(user ?? {}),
    });
  } finally {
    await stderr.close();
  }
}

async function spawned(child: ChildProcess): Promise<number> {
  if (child.pid === undefined) {
    const [error] = (await once(child, 'error')) as [Error];
    throw error;
  }
  return child.pid;
}

/** The loader only warns of a library it cannot preload; without the guard the machine must not run. */
async function requireGuard({ directory }: LaunchOptions, pid: number): Promise<void> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8');
  if (maps.includes(`/${machineFiles.guard}`)) return;
  throw new CryoboxError('machine_failed', `QEMU runs without ${machineFiles.guard} from ${directory}`);
}

async function stderrTail(directory: string): Promise<string> {
  const text = await readFile(join(directory, machineFiles.stderr), 'utf8').catch(() => '');
  return text.slice(-stderrTailBytes).trim();
}
