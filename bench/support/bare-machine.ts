import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { copyFile, link, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { createOverlay } from '../../src/formats/qcow2/index.js';
import { AgentClient } from '../../src/guest/index.js';
import {
  findQemu,
  hostArchitecture,
  type MachineSpec,
  machineFiles,
  qemuArguments,
} from '../../src/machine/index.js';
import { openDatabase } from '../../src/store/index.js';

/**
 * What a plain script does with QEMU and the files of a home, without engine, pool, sandboxed user or database: the
 * baseline of the cases about machines.
 */
export class BareMachine {
  readonly #home: string;
  readonly #memoryMiB: number;
  #qmp: Qmp | undefined;
  #directory = '';
  #pid: number | undefined;
  #agent: AgentClient | undefined;

  /** `memoryMiB`: a shape that the home has a golden machine of. */
  constructor(home: string, memoryMiB = 512) {
    this.#home = home;
    this.#memoryMiB = memoryMiB;
  }

  /** Starts QEMU, loads the golden machine's state and waits for the agent. */
  async restore(): Promise<void> {
    await this.#restore(undefined);
  }

  /** As restore, on a new overlay of an image's disk, with the disk mounted. */
  async restoreBox(image: string): Promise<AgentClient> {
    const agent = await this.#restore(image);
    await agent.system.configure({ identity: {}, root: {} });
    return agent;
  }

  /** Boots kernel and agent, mounts an image's disk and runs a command. */
  async bootAndRun(image: string, argv: readonly string[]): Promise<void> {
    const files = await this.#prepare(image);
    const qmp = await this.#start({
      ram: 'shared-file',
      boot: { kernelPath: 'kernel', initramfsPath: 'initramfs' },
    });
    await attach(qmp, files);
    const agent = await AgentClient.connect({
      socketPath: join(this.#directory, machineFiles.agentSocket),
      timeoutMs: 60_000,
    });
    this.#agent = agent;
    await agent.system.configure({ identity: {}, root: {} });
    const execution = await agent.executions.start({ id: 'first', argv, env: { PATH: '/bin' } });
    execution.stdout.resume();
    execution.stderr?.resume();
    await execution.exit;
  }

  /** Has QEMU write the whole stopped machine to a file, as it does by itself. */
  async saveTo(path: string): Promise<void> {
    const qmp = this.#control();
    const server = createServer();
    server.listen(join(this.#directory, machineFiles.outgoingSocket));
    await once(server, 'listening');
    const written = once(server, 'connection').then(async ([socket]: Socket[]) => {
      if (socket) await pipeline(socket, createWriteStream(path));
    });
    await qmp.run('stop', {});
    await qmp.run('migrate-set-capabilities', {
      capabilities: [
        { capability: 'x-ignore-shared', state: false },
        { capability: 'events', state: true },
      ],
    });
    await qmp.run('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 });
    const saved = qmp.event((name, data) => name === 'MIGRATION' && data['status'] === 'completed');
    await qmp.run('migrate', { uri: `unix:${machineFiles.outgoingSocket}` });
    await Promise.all([saved, written]);
    server.close();
    const file = await open(path, 'r');
    await file.sync();
    await file.close();
  }

  /** Lets a machine that was saved go on. */
  async goOn(): Promise<void> {
    await this.#control().run('cont', {});
  }

  /** Starts QEMU with memory of its own and loads a file of {@link saveTo} of `other`, on that one's disks. */
  async restoreFrom(path: string, other: BareMachine): Promise<AgentClient> {
    this.#directory = await mkdtemp(join(this.#home, 'bare-'));
    for (const name of await readdir(other.#directory)) {
      if (name.startsWith('lay_') || name === 'guard')
        await link(join(other.#directory, name), join(this.#directory, name));
      if (name.endsWith('-head')) await copyFile(join(other.#directory, name), join(this.#directory, name));
    }
    const qmp = await this.#start({ ram: 'anonymous' });
    await attach(qmp, { state: '' });
    await qmp.run('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
    const loaded = qmp.event((name, data) => name === 'MIGRATION' && data['status'] === 'completed');
    await qmp.run('migrate-incoming', { uri: `unix:${machineFiles.incomingSocket}` });
    const socket = createConnection(join(this.#directory, machineFiles.incomingSocket));
    socket.on('error', () => undefined);
    await Promise.all([pipeline(createReadStream(path), socket), loaded]);
    await qmp.run('cont', {});
    this.#agent = await AgentClient.connect({ socketPath: join(this.#directory, machineFiles.agentSocket) });
    return this.#agent;
  }

  #control(): Qmp {
    if (!this.#qmp) throw new Error('the machine is not started');
    return this.#qmp;
  }

  /** Ends the machine and removes its files. */
  async end(): Promise<void> {
    this.#agent?.close();
    if (this.#pid !== undefined) process.kill(this.#pid, 'SIGKILL');
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #restore(image: string | undefined): Promise<AgentClient> {
    const files = await this.#prepare(image);
    const qmp = await this.#start({ ram: 'private-file' });
    if (image !== undefined) await attach(qmp, files);
    await qmp.run('migrate-set-capabilities', {
      capabilities: ['x-ignore-shared', 'events'].map((capability) => ({ capability, state: true })),
    });
    const loaded = qmp.event((name, data) => name === 'MIGRATION' && data['status'] === 'completed');
    await qmp.run('migrate-incoming', { uri: `unix:${machineFiles.incomingSocket}` });
    const socket = createConnection(join(this.#directory, machineFiles.incomingSocket));
    socket.on('error', () => undefined);
    socket.end(await readFile(join(this.#home, 'layers', files.state)));
    await loaded;
    await qmp.run('cont', {});
    this.#agent = await AgentClient.connect({ socketPath: join(this.#directory, machineFiles.agentSocket) });
    return this.#agent;
  }

  /** Links what the machine opens into a directory of its own. */
  async #prepare(image: string | undefined): Promise<Files> {
    this.#directory = await mkdtemp(join(this.#home, 'bare-'));
    const db = await openDatabase(join(this.#home, 'cryobox.db'));
    const golden = await db
      .selectFrom('goldens')
      .selectAll()
      .where('memory_mib', '=', this.#memoryMiB)
      .where('machine_type', '!=', '')
      .executeTakeFirstOrThrow();
    const disk = await db
      .selectFrom('images')
      .innerJoin('image_disks', 'image_disks.manifest_digest', 'images.manifest_digest')
      .select('layer_id')
      .where('repository', '=', image ?? 'tiny')
      .executeTakeFirstOrThrow();
    await db.destroy();
    const place = (from: string, name: string): Promise<void> =>
      link(join(this.#home, from), join(this.#directory, name));
    await place(`layers/${golden.ram_layer}`, machineFiles.ram);
    for (const id of [golden.guest_layer, disk.layer_id]) await place(`layers/${id}`, id);
    const { readdir } = await import('node:fs/promises');
    for (const name of await readdir(join(this.#home, 'guest'))) {
      if (!name.endsWith('.tmp'))
        await place(`guest/${name}`, name.replace(/-.*/, '')).catch(() => undefined);
    }
    for (const [name, base, bytes] of [
      ['guest-head', golden.guest_layer, 16 * 1024 ** 2],
      ['disk-head', disk.layer_id, 10 * 1024 ** 3],
    ] as const) {
      const backing = { name: base, format: 'raw' } as const;
      await createOverlay({ path: join(this.#directory, name), virtualSizeBytes: bytes, backing });
    }
    return { state: golden.state_layer };
  }

  async #start(how: Pick<MachineSpec, 'ram' | 'boot'>): Promise<Qmp> {
    if (how.ram === 'shared-file') await freshRam(join(this.#directory, machineFiles.ram), this.#memoryMiB);
    const spec: MachineSpec = {
      shape: { architecture: hostArchitecture().name, cpus: 1, memoryMiB: this.#memoryMiB },
      accelerator: 'tcg',
      card: 'open',
      ...how,
    };
    const { path } = await findQemu();
    const child = spawn(path, qemuArguments(spec), {
      cwd: this.#directory,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
      env: { PATH: process.env['PATH'] ?? '', LD_PRELOAD: './guard' },
    });
    this.#pid = child.pid;
    const qmp = new Qmp(child.stdio[3] as Socket);
    await qmp.run('qmp_capabilities', {});
    this.#qmp = qmp;
    return qmp;
  }
}

interface Files {
  readonly state: string;
}

async function freshRam(path: string, memoryMiB: number): Promise<void> {
  const { truncate, writeFile } = await import('node:fs/promises');
  await rm(path);
  await writeFile(path, '');
  await truncate(path, memoryMiB * 1024 ** 2);
}

async function attach(qmp: Qmp, _files: Files): Promise<void> {
  for (const slot of ['guest', 'disk']) {
    const file = { driver: 'file', filename: `${slot}-head` };
    await qmp.run('blockdev-add', { driver: 'qcow2', 'node-name': `${slot}-head`, file });
    await qmp.run('blockdev-reopen', {
      options: [{ driver: 'raw', 'node-name': slot, file: `${slot}-head` }],
    });
  }
}

/** The least that speaks QMP: one command at a time. */
class Qmp {
  readonly #socket: Socket;
  readonly #answers: ((message: Record<string, unknown>) => void)[] = [];
  readonly #events: { accept: (name: string, data: Record<string, unknown>) => boolean; done: () => void }[] =
    [];

  constructor(socket: Socket) {
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    // A machine that is killed resets its connection; who waits for an answer then never gets one, and is at its end.
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const message = JSON.parse(line) as Record<string, unknown>;
      if ('event' in message) {
        const data = (message['data'] ?? {}) as Record<string, unknown>;
        for (const event of this.#events) if (event.accept(String(message['event']), data)) event.done();
      } else if (!('QMP' in message)) this.#answers.shift()?.(message);
    });
  }

  async run(command: string, args: object): Promise<void> {
    const answer = new Promise<Record<string, unknown>>((resolve) => this.#answers.push(resolve));
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    const message = await answer;
    if ('error' in message) throw new Error(`${command}: ${JSON.stringify(message['error'])}`);
  }

  event(accept: (name: string, data: Record<string, unknown>) => boolean): Promise<void> {
    return new Promise((done) => this.#events.push({ accept, done }));
  }
}
