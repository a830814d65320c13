import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentClient } from '../../src/guest/index.js';
import { connectWhenListening } from './listening.js';
import { bootMachine, makeBusyboxDisk, type TestMachine } from './machine.js';

describe('the agent as PID 1 of a machine', () => {
  let directory: string;
  let machine: TestMachine;
  let client: AgentClient;

  const run = async (...argv: string[]) => {
    const id = `t${Math.random().toString(36).slice(2)}`;
    const execution = await client.executions.start({ id, argv });
    const [stdout, stderr, exit] = await Promise.all([
      text(execution.stdout),
      execution.stderr ? text(execution.stderr) : '',
      execution.exit,
    ]);
    return { stdout, stderr, code: exit.code };
  };

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cryobox-boot-'));
    const disk = makeBusyboxDisk(directory, 64);
    machine = await bootMachine(directory, { disk });
    client = await connectWhenListening(machine.socketPath, 60_000);
  });

  afterAll(async () => {
    client?.close();
    await machine?.kill();
    await rm(directory, { recursive: true, force: true });
  });

  it('waits for a root, and takes no execution before', async () => {
    expect(client.hello).toMatchObject({ protocol: 1, state: 'waiting', run: null });
    await expect(client.executions.start({ id: 'early', argv: ['true'] })).rejects.toMatchObject({
      code: 'invalid_state',
    });
  });

  it('is configured in one write', async () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    const configured = await client.system.configure({
      identity: {
        hostname: 'box-1',
        machineId: '0123456789abcdef0123456789abcdef',
        mac: '52:54:00:aa:bb:cc',
      },
      root: { hosts: '127.0.0.1 localhost box-1\n' },
      network: { address: '10.0.2.15', prefix: 24, gateway: '10.0.2.2', dns: ['10.0.2.3'] },
    });
    expect(configured.run).toMatch(/^[0-9a-f]{32}$/);
    expect(configured.timeUnixNs).toBeGreaterThanOrEqual(before);
    expect((await run('hostname')).stdout).toBe('box-1\n');
    expect(
      (await run('cat', '/etc/hostname', '/etc/machine-id', '/etc/hosts', '/etc/resolv.conf')).stdout,
    ).toBe('box-1\n0123456789abcdef0123456789abcdef\n127.0.0.1 localhost box-1\nnameserver 10.0.2.3\n');
    expect((await run('ifconfig', 'eth0')).stdout).toMatch(
      /HWaddr 52:54:00:AA:BB:CC[\s\S]*inet addr:10.0.2.15/,
    );
    expect((await run('route', '-n')).stdout).toMatch(/^0\.0\.0\.0 +10\.0\.2\.2/m);
  });

  it('runs commands in the root of the disk, each in its own cgroup', async () => {
    expect(await run('sh', '-c', 'cat /proc/self/cgroup; echo $$ >&2; exit 7')).toEqual({
      stdout: expect.stringMatching(/^0::\/cryobox\/\d+\n$/),
      stderr: expect.stringMatching(/^\d+\n$/),
      code: 7,
    });
    expect((await run('cat', '/proc/self/oom_score_adj')).stdout).toBe('0\n');
    expect((await run('cat', '/proc/1/oom_score_adj')).stdout).toBe('-1000\n');
    expect((await run('mount')).stdout).toMatch(/^\/dev\/\S+ on \/ type ext4 \(rw,noatime/m);
  });

  it('switches the user with its groups and home', async () => {
    const execution = await client.executions.start({
      id: 'ann',
      argv: ['sh', '-c', 'id; echo $HOME; cd; touch mine'],
      user: 'ann',
    });
    expect(await text(execution.stdout)).toBe(
      'uid=1000(ann) gid=1000(ann) groups=29(audio),1000(ann)\n/home/ann\n',
    );
  });

  it('kills daemons that left the session when time is up', async () => {
    const execution = await client.executions.start({
      id: 'daemon',
      argv: ['sh', '-c', 'setsid sleep 1000 & setsid sleep 1000 & sleep 1000'],
      timeoutMs: 700,
    });
    expect(await execution.exit).toMatchObject({ signal: 9, code: null, timedOut: true });
    await expect.poll(async () => (await run('ps', '-o', 'args')).stdout).not.toMatch(/sleep 1000/);
  });

  it('carries 8 MB through the port unharmed', async () => {
    const bytes = Buffer.alloc(8_000_000, 'cryobox! ');
    const execution = await client.executions.start({ id: 'cat', argv: ['cat'], stdin: true });
    execution.stdin?.end(bytes);
    expect((await buffer(execution.stdout)).equals(bytes)).toBe(true);
    expect((await execution.exit).code).toBe(0);
  });

  it('keeps executions over a connection that is torn down, and says what it dropped', async () => {
    const script =
      'i=0; while [ $i -lt 3000 ]; do echo line-$i-0123456789012345678901234567890123456789; i=$((i+1)); done; echo end; sleep 1000';
    await client.executions.start({ id: 'survivor', argv: ['sh', '-c', script] });
    const other = await connectWhenListening(machine.socketPath, 1000).catch(() => undefined);
    expect(other, 'the port takes one connection at a time').toBeUndefined();
    client.close();
    client = await connectWhenListening(machine.socketPath, 20_000);
    expect(client.hello.state).toBe('ready');
    await expect.poll(async () => (await client.executions.get('survivor')).attached).toBe(false);
    const again = await client.executions.attach('survivor');
    let output = '';
    for await (const chunk of again.stdout) {
      output += String(chunk);
      if (output.endsWith('end\n')) break;
    }
    expect(output).toMatch(/line-2999-\d+\nend\n$/);
    await client.executions.kill('survivor');
    expect(await again.exit).toMatchObject({ signal: 9 });
  });

  it('freezes and thaws the root', async () => {
    await client.system.freeze({ timeoutMs: 10_000 });
    const writer = await client.executions.start({
      id: 'frozen',
      argv: ['sh', '-c', 'echo a > /frozen; echo done'],
    });
    await expect(client.files.makeDirectory('/x')).rejects.toMatchObject({ code: 'invalid_state' });
    expect((await client.executions.get('frozen')).state).toBe('running');
    await client.system.thaw();
    expect(await text(writer.stdout)).toBe('done\n');
    await expect(client.system.thaw()).rejects.toMatchObject({ code: 'invalid_state' });
  });

  it('reports figures and resets connections', async () => {
    const metrics = await client.system.metrics();
    expect(metrics.memory.totalBytes).toBeGreaterThan(200 << 20);
    expect(metrics.network.map((one) => one.interface)).toContain('eth0');
    expect(await client.system.resetConnections()).toBe(0);
  });

  it('turns the machine off', async () => {
    await client.system.powerOff({ timeoutMs: 2000 });
    expect((await client.closed).code).toBe('machine_failed');
    // The port closes before QEMU has ended: it must end by itself.
    await machine.exited;
    expect(machine.process.exitCode).toBe(0);
  });
});
