import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guestProgramPath } from '../../src/engine/machines/assets.js';
import type { AgentClient } from '../../src/guest/index.js';
import { connectWhenListening } from './listening.js';

/** The agent as set-up built it. */
export const agentPath = guestProgramPath('cryobox-agent');

/** The agent on a unix socket of the host: everything but the powers of PID 1. */
export class HostAgent {
  readonly directory: string;
  readonly socketPath: string;
  readonly #process: ChildProcess;
  readonly #clients: AgentClient[] = [];

  private constructor(directory: string, socketPath: string, process: ChildProcess) {
    this.directory = directory;
    this.socketPath = socketPath;
    this.#process = process;
  }

  /** Starts one; `folder` makes the socket's path longer. */
  static async start(folder = ''): Promise<HostAgent> {
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-agent-'));
    const socketPath = join(directory, folder, 'agent.sock');
    const name = 'agent.sock';
    const child = spawn(agentPath, ['--listen', name], {
      cwd: join(directory, folder),
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    return new HostAgent(directory, socketPath, child);
  }

  async connect(): Promise<AgentClient> {
    const client = await connectWhenListening(this.socketPath, 10_000);
    this.#clients.push(client);
    return client;
  }

  /** Process id on the host. */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Whether it lives. */
  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  async kill(): Promise<void> {
    if (!this.running) return;
    const gone = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await gone;
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}
