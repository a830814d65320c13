import { chown, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { faultPoint } from '../base/faults.js';
import { openFileLimits } from '../base/open-files.js';
import { type StartedProcess, startProcess } from '../base/process/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { type MachineSpec, machineFiles, qemuArguments } from './arguments.js';
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

/** A QEMU that answers. It goes on when this process ends; until then whoever has it has to end it. */
export interface LaunchedQemu {
  readonly process: ProcessIdentity;
  readonly child: StartedProcess;
  readonly qmp: QmpClient;
}

/** Files that QEMU may open: enough for deep disk chains and sockets. */
const openFiles = 1024;

/** What is kept of QEMU's own messages in an error. */
const stderrTailBytes = 4096;

/**
 * Starts QEMU in its private directory and waits for its control session. It outlives this process.
 * Throws `machine_failed` with QEMU's words when it ends or does not answer in time, `config_error` when prlimit is
 * missing, `resource_exhausted` when the host is at a limit; nothing runs then.
 */
export async function launchQemu(options: LaunchOptions): Promise<LaunchedQemu> {
  faultPoint('machine.launch:before');
  await using child = await startQemu(options);
  faultPoint('machine.launch:after');
  const ended = child.exited.then(({ code, signal }) => `it ended with ${signal ?? code}`);
  try {
    const qmp = await Promise.race([
      QmpClient.attach(child.channel, options.timeoutMs),
      ended.then((how) => Promise.reject(new CryoboxError('machine_failed', how))),
    ]);
    await requireGuard(options, child.pid);
    const process = await identify(child.pid);
    if (!process) throw new CryoboxError('machine_failed', await ended);
    child.release();
    return { process, child, qmp };
  } catch (error) {
    if (isCryoboxError(error, 'resource_exhausted')) throw error;
    throw machineFailure('cannot start QEMU', error, await lastWords(options.directory));
  }
}

async function startQemu({ spec, qemuPath, directory, user }: LaunchOptions): Promise<StartedProcess> {
  if (user) await chown(directory, user.uid, user.gid);
  const stderr = await open(join(directory, machineFiles.stderr), 'a', 0o600);
  try {
    // The working directory is entered before the user changes, so a home that others cannot reach stays so:
    // the machine sees this one directory of it, by relative names.
    return await startProcess('prlimit', {
      args: [...resourceLimits(), '--', qemuPath, ...qemuArguments(spec)],
      cwd: directory,
      session: true,
      stdout: stderr.fd,
      stderr: stderr.fd,
      channel: true,
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', LD_PRELOAD: `./${machineFiles.guard}` },
      user,
    });
  } finally {
    await stderr.close();
  }
}

/** No core dumps of guest memory; as many open files as are needed, or as this process may give. */
function resourceLimits(): string[] {
  const files = Math.min(openFiles, openFileLimits().hard);
  return ['--core=0', `--nofile=${files}:${files}`];
}

/**
 * The error of a QEMU that ended, with its last words: `resource_exhausted` when they say, in the C library's words, that
 * the host gave it no thread or memory; else `machine_failed`.
 */
export function machineFailure(what: string, cause: unknown, words: string): CryoboxError {
  const message = `${what}: ${messageOf(cause)}${words ? `\n${words}` : ''}`;
  const atLimit = /Resource temporarily unavailable|Cannot allocate memory/.test(words);
  return new CryoboxError(atLimit ? 'resource_exhausted' : 'machine_failed', message, {
    cause,
    ...(atLimit
      ? { hint: 'Stop or pause what is not needed, or raise the limit of processes or memory.' }
      : {}),
  });
}

/** The loader only warns of a library it cannot preload; without the guard the machine must not run. */
async function requireGuard({ directory }: LaunchOptions, pid: number): Promise<void> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8');
  if (maps.includes(`/${machineFiles.guard}`)) return;
  throw new CryoboxError('machine_failed', `QEMU runs without ${machineFiles.guard} from ${directory}`);
}

/** The end of what the QEMU of a directory wrote on its standard error. */
export async function lastWords(directory: string): Promise<string> {
  const text = await readFile(join(directory, machineFiles.stderr), 'utf8').catch(() => '');
  return text.slice(-stderrTailBytes).trim();
}
