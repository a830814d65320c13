import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRuntime } from '../../dist/remote/index.js';
import type { Box, Runtime } from '../../src/api/index.js';
import { newHome, type TestHome } from '../support/home.js';

const driver = fileURLToPath(new URL('../crash/serve-driver.mjs', import.meta.url));
/** Far more than every buffer on the way. */
const largeBytes = 160 * 1024 * 1024;
/** What the server may hold for a client that does not read: its buffers and what the collector has not freed. */
const allowedBytes = 48 * 1024 * 1024;
const freedWithinMs = 1000;

/** A server in a process of its own, whose memory and descriptors are its alone. */
describe('a client that does not read', () => {
  let home: TestHome;
  let child: ChildProcess;
  let url: URL;
  let runtime: Runtime;
  let box: Box;

  beforeAll(async () => {
    home = await newHome();
    child = spawn(process.execPath, [driver, JSON.stringify({ home: home.path })], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout as NonNullable<typeof child.stdout>, 'data')) as [Buffer];
    url = new URL(line.toString().trim());
    runtime = connectRuntime({ url: url.origin });
    box = await runtime.create({ image: 'tiny', name: 'main', detach: true });
    // Noise that zstd cannot make smaller, and not all of it made by a slow guest.
    const script = `head -c 4194304 /dev/urandom > /root/piece; for i in $(seq ${largeBytes / 4_194_304}); do cat /root/piece; done > /root/large; sync`;
    expect((await box.exec(['sh', '-c', script])).exitCode).toBe(0);
    // Warms up what a transfer needs anyhow.
    for await (const _chunk of await box.files.pack('/root/piece'));
    await box.exec(['cat', '/root/piece']);
  });

  afterAll(async () => {
    await box.remove({ force: true });
    await runtime.close();
    child.kill('SIGTERM');
    await once(child, 'exit');
    await home[Symbol.asyncDispose]();
  });

  async function residentBytes(): Promise<number> {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  }

  /** Whether the server still has its end of a connection, or a file of the scratch directory. */
  async function isHeld(clientPort: number): Promise<boolean> {
    const port = (it: number): string => `:${it.toString(16).toUpperCase().padStart(4, '0')}`;
    const connections = await readFile(`/proc/${child.pid}/net/tcp`, 'utf8');
    const ends = new RegExp(`${port(Number(url.port))} \\w+${port(clientPort)} (\\w\\w)`, 'm');
    // 06 is TIME_WAIT, which the kernel keeps by itself.
    const state = ends.exec(connections)?.[1] ?? '06';
    const files = await readdir(`/proc/${child.pid}/fd`);
    const links = await Promise.all(
      files.map((fd) => readlink(`/proc/${child.pid}/fd/${fd}`).catch(() => '')),
    );
    return state !== '06' || links.some((link) => link.includes('/scratch/'));
  }

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(`${url.origin}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  }

  /** Sends a request on a connection of its own and stops reading once the answer has begun. */
  async function ask(head: string, body = ''): Promise<Socket> {
    const socket = connect(Number(url.port), url.hostname);
    socket.on('error', () => undefined);
    socket.write(`${head}\r\nhost: ${url.host}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    const [first] = (await once(socket, 'data')) as [Buffer];
    socket.pause();
    expect(first.toString('latin1')).toMatch(/^HTTP\/1\.1 (200|101) /);
    return socket;
  }

  /** Until the server's memory has stood still for a while; what it has grown by. */
  async function settledGrowth(before: number): Promise<number> {
    let last = -1;
    let now = await residentBytes();
    for (let turn = 0; turn < 20 && Math.abs(now - last) > 512 * 1024; turn += 1) {
      last = now;
      await delay(400);
      now = await residentBytes();
    }
    return now - before;
  }

  async function leave(socket: Socket): Promise<void> {
    const { localPort = 0 } = socket;
    expect(await isHeld(localPort)).toBe(true);
    socket.destroy();
    const began = performance.now();
    while (await isHeld(localPort)) {
      expect(performance.now() - began).toBeLessThan(freedWithinMs);
      await delay(20);
    }
  }

  /** What was in the making goes right after the connection. */
  async function scratchEmpties(): Promise<void> {
    const began = performance.now();
    while ((await readdir(join(home.path, 'scratch'))).length > 0) {
      expect(performance.now() - began).toBeLessThan(freedWithinMs);
      await delay(20);
    }
  }

  async function slowly(head: string, body?: string): Promise<Socket> {
    const before = await residentBytes();
    const socket = await ask(head, body);
    expect(await settledGrowth(before)).toBeLessThan(allowedBytes);
    return socket;
  }

  it('of a copy-out makes the server hold little, and is let go within a second', async () => {
    const socket = await slowly('GET /v1/boxes/main/files?path=/root/large HTTP/1.1');
    await leave(socket);
    expect((await box.exec(['true'])).exitCode).toBe(0);
  });

  it('of a file makes it hold little, too', async () => {
    const socket = await slowly('GET /v1/boxes/main/files/content?path=/root/large HTTP/1.1');
    await leave(socket);
  });

  it('of an export makes it hold little, and leaves no archive behind', async () => {
    const json = 'POST /v1/boxes/main/export HTTP/1.1\r\ncontent-type: application/json';
    const socket = await slowly(json, '{"compress":false}');
    await leave(socket);
    await scratchEmpties();
    expect((await box.info()).operation).toBeNull();
  });

  it('that leaves an export before its first byte ends it', async () => {
    const socket = connect(Number(url.port), url.hostname);
    socket.on('error', () => undefined);
    socket.write(`POST /v1/boxes/main/export HTTP/1.1\r\nhost: ${url.host}\r\ncontent-length: 0\r\n\r\n`);
    while (
      (await box.info()).operation !== 'exporting' &&
      (await readdir(join(home.path, 'scratch'))).length === 0
    ) {
      await delay(10);
    }
    await leave(socket);
    await scratchEmpties();
  });

  it('of the output of a command makes the command wait', async () => {
    const execution = await fetch(`${url.origin}/v1/boxes/main/exec`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ command: 'cat', args: ['/root/large', '/root/large'] }),
    });
    const { execution_id: id } = (await execution.json()) as { execution_id: string };
    const upgrade =
      'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==';
    const socket = await slowly(`GET /v1/boxes/main/executions/${id}/attach HTTP/1.1\r\n${upgrade}`);
    expect((await box.executions.get(id))?.status).toBe('running');
    expect(await metric('cryobox_websockets')).toBe(1);
    await leave(socket);
    const began = performance.now();
    while ((await metric('cryobox_websockets')) > 0) {
      expect(performance.now() - began).toBeLessThan(freedWithinMs);
    }
    await box.executions.kill(id);
  });

  it('of an upload that the box does not take sends no more', async () => {
    const before = await residentBytes();
    const reader = await box.startExec(['sleep', '60'], { stdin: true });
    let sent = 0;
    const sending = (async () => {
      for (; sent < largeBytes; sent += 1 << 20) await reader.stdin?.write(Buffer.alloc(1 << 20));
    })().catch(() => undefined);
    expect(await settledGrowth(before)).toBeLessThan(allowedBytes);
    expect(sent).toBeLessThan(32 * 1024 * 1024);
    await reader.kill();
    await sending;
  });
});
