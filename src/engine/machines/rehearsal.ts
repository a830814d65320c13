import { randomBytes } from 'node:crypto';
import { chmod, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { buildEmptyDisk } from '../../formats/ext4/index.js';
import { createOverlay } from '../../formats/qcow2/index.js';
import { AgentClient } from '../../guest/index.js';
import { attachDisk, type DiskChain, detachDisk, goldenMac, type Machine } from '../../machine/index.js';
import type { Scratch, ScratchPlace } from '../layers/scratch.js';
import { guestProgramPath } from './assets.js';
import { guestNetwork, hostsFile } from './identity.js';

/** The least that the file system's writer makes; the file is sparse. */
const diskBytes = 256 * 1024 * 1024;
/** The program that is run, in the root of the disk: the agent, which ends at once without a place to listen at. */
const program = 'program';
/** A busy host may need far longer than the few hundred milliseconds of an idle one. */
const agentTimeoutMs = 30_000;
const programTimeoutMs = 30_000;

/** The disk that machines rehearse with: read by all of them, each on an overlay of its own. */
export class RehearsalDisk {
  readonly #scratch: Scratch;
  #place: Promise<ScratchPlace> | undefined;

  constructor(scratch: Scratch) {
    this.#scratch = scratch;
  }

  /** Where it is; made on first use. Throws `disk_full`, `storage_error`. */
  async path(): Promise<string> {
    this.#place ??= this.#make();
    try {
      return join((await this.#place).path, 'disk');
    } catch (error) {
      this.#place = undefined;
      throw error;
    }
  }

  /** Removes it. */
  async close(): Promise<void> {
    const place = await this.#place?.catch(() => undefined);
    await place?.[Symbol.asyncDispose]();
  }

  async #make(): Promise<ScratchPlace> {
    const place = await this.#scratch.take();
    try {
      const programs = { [program]: await readFile(guestProgramPath('cryobox-agent')) };
      const path = join(place.path, 'disk');
      await buildEmptyDisk({ path, sizeBytes: diskBytes, identity: 'rehearsal', programs });
      // Machines run as users of their own.
      await chmod(path, 0o444);
      return place;
    } catch (error) {
      await place[Symbol.asyncDispose]();
      throw error;
    }
  }
}

const base = { id: 'rehearsal', format: 'raw' } as const;
const head = { id: 'rehearsal-head', format: 'qcow2' } as const;
const chain: DiskChain = [base, head];

/** Puts the disk into a machine that has no disks yet. */
export async function attachRehearsal(machine: Machine, diskPath: string): Promise<void> {
  await machine.place({ path: diskPath, name: base.id, writable: false });
  const path = join(machine.directory, `${head.id}.new`);
  await createOverlay({ path, virtualSizeBytes: diskBytes, backing: { name: base.id, format: 'raw' } });
  await machine.place({ path, name: head.id, writable: true });
  await rm(path);
  await attachDisk(machine.qmp, 'disk', chain);
}

/**
 * Has a machine that runs do once what the start of a box does, and take back whatever can be seen of it. The machine has
 * no disks afterwards. Throws what the agent and QEMU throw; the machine must not be used then.
 */
export async function rehearse(machine: Machine): Promise<AgentClient> {
  const agent = await AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: agentTimeoutMs });
  try {
    const hostname = 'rehearsal';
    // The name servers are a file of the root.
    const network = { ...guestNetwork, dns: [] };
    await agent.system.rehearse({
      identity: { hostname, machineId: randomBytes(16).toString('hex'), mac: goldenMac },
      root: { growToBytes: diskBytes, hosts: hostsFile(hostname) },
      network,
    });
    await runProgram(agent);
    await agent.system.leaveRehearsal();
    await detachDisk(machine.qmp, 'disk', chain);
    await agent.system.forgetRehearsal();
    for (const { id } of chain) await machine.takeAway(id);
    return agent;
  } catch (error) {
    agent.close();
    throw error;
  }
}

async function runProgram(agent: AgentClient): Promise<void> {
  const execution = await agent.executions.start(
    { id: 'rehearsal', argv: [`/root/${program}`], timeoutMs: programTimeoutMs },
    { timeoutMs: programTimeoutMs },
  );
  execution.stdout.resume();
  execution.stderr?.resume();
  await execution.exit;
  await agent.executions.forget(execution.id);
}
