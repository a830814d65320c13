import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { open, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startProcess } from '../base/process/index.js';
import { connectUnix } from '../base/socket.js';
import { CryoboxError, messageOf } from '../errors.js';
import {
  endProcess,
  identify,
  isAlive,
  killProcess,
  type MachineUser,
  machineFiles,
  type ProcessIdentity,
} from '../machine/index.js';
import type { GatewayPolicy } from './settings.js';

/** Starting one takes some 10 ms; a busy host may need far longer. */
const startTimeoutMs = 20_000;
/** It answers between two frames. */
const answerTimeoutMs = 10_000;
/** How often one is looked at that another engine started: its end is not told to this process. */
const lookMs = 1_000;
/** Sockets of a box: connections, flows and questions. */
const openFiles = 4096;
/** What its queues may hold, several times over: a box that wants more ends its own gateway. */
const addressSpaceBytes = 256 * 1024 * 1024;
/** Longest answer that is read: all denials that are kept. */
const maxAnswerBytes = 1024 * 1024;

interface Answer {
  readonly ok?: unknown;
  readonly error?: string;
}

/** How to find a gateway again. */
export interface GatewayIdentity {
  readonly process: ProcessIdentity;
  /** What whoever speaks to it has to know. */
  readonly token: string;
}

/**
 * The process at the other end of a machine's network card (gateway/). It belongs to one machine, runs as its user in its
 * directory, and ends with it. Until it has a policy it lets nothing out.
 */
export class Gateway implements GatewayIdentity {
  readonly process: ProcessIdentity;
  readonly token: string;
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<void>;
  readonly #socketPath: string;

  private constructor(directory: string, { process, token }: GatewayIdentity, exited: Promise<void>) {
    this.process = process;
    this.token = token;
    this.exited = exited;
    this.#socketPath = join(directory, machineFiles.gatewaySocket);
  }

  /** Starts one in the directory of a machine that waits or runs. Throws `machine_failed`, `resource_exhausted`. */
  static async start(directory: string, user: MachineUser | undefined): Promise<Gateway> {
    const token = randomBytes(32).toString('hex');
    const log = await open(join(directory, machineFiles.gatewayLog), 'a', 0o600);
    try {
      const limits = ['--core=0', `--nofile=${openFiles}:${openFiles}`, `--as=${addressSpaceBytes}`];
      await using child = await startProcess('prlimit', {
        args: [...limits, '--', `./${machineFiles.gateway}`],
        cwd: directory,
        session: true,
        stdin: 'pipe',
        stdout: 'pipe',
        stderr: log.fd,
        env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
        user,
      });
      child.stdin.end(`${token}\n`);
      const isReady = once(child.stdout, 'data').then(() => true);
      isReady.catch(() => undefined);
      const late = delay(startTimeoutMs, false, { ref: false });
      const ready = await Promise.race([isReady, child.exited.then(() => false), late]);
      const identity = ready ? await identify(child.pid) : undefined;
      if (!identity) {
        const words = await readFile(join(directory, machineFiles.gatewayLog), 'utf8').catch(() => '');
        throw new CryoboxError('machine_failed', `the gateway did not start: ${words.slice(-1000).trim()}`);
      }
      child.stdout.destroy();
      child.release();
      const exited = child.exited.then(() => undefined);
      return new Gateway(directory, { process: identity, token }, exited);
    } finally {
      await log.close();
    }
  }

  /** Takes over one that an earlier engine started. */
  static adopt(directory: string, identity: GatewayIdentity): Gateway {
    const ended = async (): Promise<void> => {
      // Where it cannot be looked at, for want of a descriptor, it counts as alive.
      while (await isAlive(identity.process).catch(() => true)) {
        await delay(lookMs, undefined, { ref: false });
      }
    };
    return new Gateway(directory, identity, ended());
  }

  /** Ends every gateway that runs in a machine's directory: only one can have the card. */
  static async endAll(directory: string): Promise<void> {
    const program = `\0./${machineFiles.gateway}\0`;
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      // Those of others cannot be looked at, and those that have just ended neither.
      const commandLine = await readFile(join('/proc', entry, 'cmdline'), 'utf8').catch(() => '');
      if (!`\0${commandLine}`.endsWith(program)) continue;
      if ((await readlink(join('/proc', entry, 'cwd')).catch(() => '')) !== directory) continue;
      const process = await identify(Number(entry));
      if (process) await endProcess(process);
    }
  }

  /** Gives it a policy, which replaces the one before: what that allowed and this does not is cut. Throws `machine_failed`. */
  async apply(policy: GatewayPolicy): Promise<void> {
    await this.#ask({ op: 'policy', policy });
  }

  /** What went through and what was refused; denials after a number. Throws `machine_failed`. */
  async info(after = 0): Promise<unknown> {
    return await this.#ask({ op: 'info', after });
  }

  /** Notes what was refused on its behalf. Throws `machine_failed`. */
  async refused(what: {
    readonly reason: string;
    readonly name: string;
    readonly port: number;
  }): Promise<void> {
    await this.#ask({ op: 'refused', ...what });
  }

  /** Ends it at once: nothing leaves the box until there is another one. */
  async kill(): Promise<void> {
    await killProcess(this.process);
  }

  async #ask(request: object): Promise<unknown> {
    try {
      const socket = await connectUnix(this.#socketPath);
      try {
        socket.setTimeout(answerTimeoutMs, () => socket.destroy(new Error('it does not answer')));
        socket.write(`${JSON.stringify({ token: this.token })}\n${JSON.stringify(request)}\n`);
        const answer = JSON.parse(await firstLine(socket)) as Answer;
        if (answer.ok === undefined) throw new Error(answer.error ?? 'its answer is empty');
        return answer.ok;
      } finally {
        socket.destroy();
      }
    } catch (error) {
      throw new CryoboxError('machine_failed', `the gateway of the box: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}

async function firstLine(socket: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    const end = text.indexOf('\n');
    if (end >= 0) return text.slice(0, end);
    if (text.length > maxAnswerBytes) throw new Error('its answer is too long');
  }
  throw new Error('it has ended');
}
