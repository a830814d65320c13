import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import type { Box } from '../../src/api/index.js';
import { machineFiles, QmpClient } from '../../src/machine/index.js';
import { outsideAddress } from './outside-address.js';
import { output, TestEngine } from './support.js';

const engine = new TestEngine();
let server: Server;
let address = '';
const sockets: Socket[] = [];

beforeAll(async () => {
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.write('hello\n');
  });
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  const bound = server.address();
  address = `'${outsideAddress()}', ${typeof bound === 'object' ? bound?.port : 0}`;
});
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** Answers on a port, holds a connection to the outside, and writes down how that ended. */
const program = (): string => `
import os, socket, threading
def serve():
    listening = socket.create_server(('127.0.0.1', 8000))
    while True:
        connection, _ = listening.accept()
        connection.sendall(b'pid %d\\n' % os.getpid())
        connection.close()
threading.Thread(target=serve, daemon=True).start()
outside = socket.create_connection((${address}))
outside.recv(6)
open('/root/connected', 'w').close()
try:
    got = outside.recv(1)
    open('/root/ended', 'w').write('closed' if got == b'' else 'data')
except OSError as error:
    open('/root/ended', 'w').write(type(error).__name__)
threading.Event().wait()
`;

async function answerOfPort(box: Box): Promise<string> {
  const connection = await box.dial(8000);
  let text = '';
  for await (const chunk of connection.output) text += Buffer.from(chunk).toString();
  await connection.close();
  return text;
}

/** How far a box's clock is off at most, in milliseconds: it was read between two readings of this host's. */
async function clockError(box: Box): Promise<number> {
  const before = Date.now();
  const guest = Number(await output(box, 'date +%s%3N'));
  return Math.max(0, before - guest, guest - Date.now());
}

/** The VM generation id (QMP) of the one machine there is. */
async function generationId(): Promise<string> {
  const [name = ''] = await readdir(join(engine.home, 'machines'));
  const qmp = await QmpClient.connect(join(engine.home, 'machines', name, machineFiles.qmpSocket));
  try {
    return (await qmp.query('query-vm-generation-id', z.object({ guid: z.string() }))).guid;
  } finally {
    qmp.close();
  }
}

it('has the right time, keeps its listening sockets, and ends connections to the outside', async () => {
  await using box = await engine.runtime.create({ image: 'debian-python' });
  await box.files.write('/root/program.py', program());
  await box.startExec(['python3', '/root/program.py']);
  await output(box, 'until [ -e /root/connected ]; do sleep 0.02; done');
  const { run } = await box.info();
  const answer = await answerOfPort(box);
  expect(answer).toMatch(/^pid \d+\n$/);
  await box.pause();
  // Time in which the box does not exist, and which its clock has to make up for.
  await sleep(1500);
  // Traffic to a port resumes a box by itself.
  expect(await answerOfPort(box)).toBe(answer);
  expect((await box.info()).run).toBe(run);
  expect(await clockError(box)).toBeLessThan(100);
  expect(await output(box, 'until [ -s /root/ended ]; do sleep 0.02; done; cat /root/ended')).toMatch(
    /Conn|OSError/,
  );
});

it('keeps connections over a snapshot with memory, and has the right time after a rollback', async () => {
  await using box = await engine.runtime.create({ image: 'debian-python' });
  await box.files.write('/root/program.py', program());
  await box.startExec(['python3', '/root/program.py']);
  await output(box, 'until [ -e /root/connected ]; do sleep 0.02; done');
  const answer = await answerOfPort(box);
  await box.snapshot.create('point', { memory: true });
  expect(await answerOfPort(box)).toBe(answer);
  expect(await output(box, 'ls /root')).not.toContain('ended');
  await sleep(1000);
  await box.snapshot.restore('point', { live: true });
  expect(await clockError(box)).toBeLessThan(100);
  expect(await answerOfPort(box)).toBe(answer);
  await output(box, 'until [ -s /root/ended ]; do sleep 0.02; done');
});

it('gives every restore of one memory other random numbers and another VM generation', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await box.snapshot.create('point', { memory: true });
  const random: string[] = [];
  const generations: string[] = [];
  for (let i = 0; i < 3; i += 1) {
    await box.snapshot.restore('point', { live: true });
    random.push(await output(box, 'head -c 16 /dev/urandom | md5sum'));
    random.push(await output(box, 'cat /proc/sys/kernel/random/uuid'));
    generations.push(await generationId());
  }
  expect(new Set(random).size).toBe(random.length);
  expect(new Set(generations).size).toBe(generations.length);
});

it('pauses a box that nobody uses, not one whose port is in use, and resumes it for its port', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({
    image: 'debian-python',
    autoStop: 1,
    autoStopAction: 'pause',
    autoDelete: 60,
  });
  await box.files.write('/root/echo.py', echo);
  await box.startExec(['sh', '-c', 'python3 /root/echo.py & exec true']);
  await output(box, 'until [ -e /root/ready ]; do sleep 0.02; done');
  const connection = await box.dial(8001);
  await connection.input.write(Buffer.from('a'));
  const received = connection.output[Symbol.asyncIterator]();
  expect(Buffer.from((await received.next()).value ?? []).toString()).toBe('a');
  await sleep(2500);
  expect((await box.info()).status).toBe('running');
  await connection.input.write(Buffer.from('b'));
  expect(Buffer.from((await received.next()).value ?? []).toString()).toBe('b');
  const events = runtime.events();
  await connection.close();
  for await (const event of events) if (event.id === box.id && event.change === 'paused') break;
  const again = await box.dial(8001);
  await again.input.write(Buffer.from('c'));
  for await (const chunk of again.output) {
    expect(Buffer.from(chunk).toString()).toBe('c');
    break;
  }
  await again.close();
});

/** Sends back what it gets, one connection after the other. */
const echo = `
import socket
listening = socket.create_server(('127.0.0.1', 8001))
open('/root/ready', 'w').close()
while True:
    connection, _ = listening.accept()
    with connection:
        while True:
            try:
                data = connection.recv(100)
            except OSError:
                break
            if not data:
                break
            connection.sendall(data)
`;

it('removes a paused box that nobody uses when that is its policy', async () => {
  const { runtime } = engine;
  const events = runtime.events();
  const box = await runtime.create({ image: 'tiny', autoStop: 1, autoStopAction: 'pause', autoDelete: 3 });
  const seen: string[] = [];
  for await (const event of events) {
    if (event.id !== box.id || !['paused', 'removed'].includes(event.change)) continue;
    seen.push(event.change);
    if (event.change === 'removed') break;
  }
  expect(seen).toEqual(['paused', 'removed']);
  expect(await runtime.get(box.id)).toBeNull();
});
