import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { encodeFrame, magic } from '../../src/guest/frames.js';
import type { AgentClient } from '../../src/guest/index.js';
import { connectWhenListening } from './listening.js';
import { bootMachine, makeBusyboxDisk, type TestMachine } from './machine.js';

describe('an agent that was frozen and goes on', () => {
  let directory: string;
  let statePath: string;
  const machines: TestMachine[] = [];

  const run = async (client: AgentClient, ...argv: string[]) => {
    const id = `r${Math.random().toString(36).slice(2)}`;
    return text((await client.executions.start({ id, argv })).stdout);
  };
  const configure = (client: AgentClient) =>
    client.system.configure({
      identity: { hostname: 'copy' },
      root: { growToBytes: 96 << 20 },
      network: { address: '10.0.2.15', prefix: 24, gateway: '10.0.2.2' },
    });

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cryobox-restore-'));
    statePath = join(directory, 'state');
    const disk = makeBusyboxDisk(directory, 64, 96);
    const golden = await bootMachine(directory, { disk });
    machines.push(golden);
    (await connectWhenListening(golden.socketPath, 60_000)).close();
    // The last thing the frozen agent saw is the first half of a frame.
    const broken: Socket = connect(golden.socketPath);
    await once(broken, 'connect');
    const hello = encodeFrame({ id: 1, op: 'hello', protocol: 1 });
    const half = Buffer.concat([Buffer.from([0, 0, 0, 20, 0, 1, 0, 0]), Buffer.from('{"id":2,"op":"sys')]);
    broken.write(Buffer.concat([magic, Buffer.alloc(16, 1), ...hello, half]));
    await once(broken, 'data');
    await golden.monitor('stop');
    await golden.monitor(`migrate "exec:cat > ${statePath}"`);
    broken.destroy();
    await golden.kill();
  });
  afterAll(async () => {
    await Promise.all(machines.map((machine) => machine.kill()));
    await rm(directory, { recursive: true, force: true });
  });

  /** `cont` while the state is still being loaded is lost. */
  const goOn = async (machine: TestMachine) => {
    await expect.poll(() => machine.monitor('info status'), { timeout: 10_000 }).not.toContain('inmigrate');
    await machine.monitor('cont');
  };

  const restore = async (name: string): Promise<TestMachine> => {
    const disk = join(directory, `${name}.ext4`);
    await once(spawn('cp', ['--sparse=always', join(directory, 'disk.ext4'), disk]), 'exit');
    const machine = await bootMachine(directory, { disk, name, incoming: statePath });
    machines.push(machine);
    return machine;
  };

  it('takes a new connection, whether it comes before or after the machine runs', async () => {
    const runs = new Set<string>();
    const random = new Set<string>();
    for (const order of ['before', 'after']) {
      const machine = await restore(order);
      const connecting = order === 'before' ? connectWhenListening(machine.socketPath, 20_000) : undefined;
      await goOn(machine);
      const client = await (connecting ?? connectWhenListening(machine.socketPath, 20_000));
      const configured = await configure(client);
      runs.add(configured.run ?? '');
      random.add(await run(client, 'cat', '/proc/sys/kernel/random/uuid'));
      expect(Math.abs(Number(await run(client, 'date', '+%s')) - Date.now() / 1000)).toBeLessThan(2);
      expect((await client.system.metrics()).disk.totalBytes).toBeGreaterThan(70 << 20);
      client.close();
      await machine.kill();
    }
    expect([runs.size, random.size]).toEqual([2, 2]);
  });

  it('is idle when nobody is connected', async () => {
    const machine = await restore('idle');
    await goOn(machine);
    const first = await connectWhenListening(machine.socketPath, 20_000);
    await configure(first);
    const before = (await first.system.metrics()).agent.cpuTimeUs;
    first.close();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const second = await connectWhenListening(machine.socketPath, 20_000);
    expect((await second.system.metrics()).agent.cpuTimeUs - before).toBeLessThan(100_000);
    second.close();
  });

  it('resets connections that lead out, and no others', async () => {
    const machine = await restore('reset');
    await goOn(machine);
    const client = await connectWhenListening(machine.socketPath, 20_000);
    await configure(client);
    const server = createServer((socket) => socket.on('error', () => undefined));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const inside = await client.executions.start({
      id: 'server',
      argv: ['nc', '-l', '-p', '7000', '-e', 'cat'],
    });
    const outward = await client.executions.start({
      id: 'out',
      argv: ['nc', '10.0.2.2', String(port)],
      stdin: true,
    });
    const [socket] = (await once(server, 'connection')) as [Socket];
    const { input, output } = await vi.waitFor(() => client.dial({ port: 7000 }), { timeout: 5000 });
    output.write('before');
    expect(String((await once(input, 'data'))[0])).toBe('before');
    expect(await client.system.resetConnections()).toBe(1);
    expect((await outward.exit).code).not.toBeNull();
    output.end('after');
    expect(await text(input)).toBe('after');
    await inside.kill();
    socket.destroy();
    server.close();
    client.close();
  });
});
