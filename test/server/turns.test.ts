import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { connectRuntime } from '../../dist/remote/index.js';
import type { Box, Runtime } from '../../src/api/index.js';
import { packHoles } from '../archive/sparse-maker.js';
import { newHome, type TestHome } from '../support/home.js';
import { temporaryDirectory } from './support.js';

const driver = fileURLToPath(new URL('turns-driver.mjs', import.meta.url));
const GIB = 2 ** 30;
/** Some thousand lines in several frames; the guest is slow to make them. */
const manyFiles = 3000;
/**
 * Processor time of the longest turn that may pass beside the longest of ordinary requests in the same run: a turn of a
 * loop ends after 8 ms, the collector and what V8 compiles come on top. What this is about took seconds.
 */
const allowedMs = 30;
/** A message of 8 MiB, the longest that is taken: the library joins and unmasks it in one turn. */
const longestMessageMs = 120;

interface Turns {
  readonly longestMs: number;
}

/** What one caller asks for must not keep the others waiting. */
describe('while one caller asks for much', () => {
  let home: TestHome;
  let child: ChildProcess;
  let url: string;
  let runtime: Runtime;
  let box: Box;
  let ordinary: Turns;

  beforeAll(async () => {
    home = await newHome();
    child = spawn(process.execPath, [driver, JSON.stringify({ home: home.path })], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const [ready] = (await once(child, 'message')) as [{ url: string }];
    url = ready.url;
    runtime = connectRuntime({ url });
    box = await runtime.create({ image: 'tiny', name: 'main', detach: true });
    // What is compiled and filled once is not measured.
    await box.exec(['true']);
    for (let i = 0; i < 20; i += 1) await runtime.list();
    ordinary = await measure(async () => {
      for (let i = 0; i < 10; i += 1) await box.exec(['true']);
    });
  });

  afterAll(async () => {
    await box.remove({ force: true });
    await runtime.close();
    child.kill('SIGTERM');
    await once(child, 'exit');
    await home[Symbol.asyncDispose]();
  });

  async function ask<T>(message: string): Promise<T> {
    const answer = once(child, 'message') as Promise<[T]>;
    child.send(message);
    return (await answer)[0];
  }

  /** Runs a task while another caller asks for the boxes all the time; the server's turns meanwhile. */
  async function measure(task: () => Promise<void>): Promise<Turns & { answered: number }> {
    await ask('begin');
    let answered = 0;
    let over = false;
    const other = (async () => {
      while (!over) {
        const answer = await fetch(`${url}/v1/boxes`);
        expect(answer.status).toBe(200);
        await answer.arrayBuffer();
        answered += 1;
      }
    })();
    try {
      await task();
    } finally {
      over = true;
      await other;
    }
    return { ...(await ask<Turns>('end')), answered };
  }

  /** A stretch of ours comes back each time; one that other work on the host makes does not. */
  async function isFair(task: () => Promise<void>, aboveMs = allowedMs): Promise<void> {
    let best = await measure(task);
    for (let again = 0; again < 3 && best.longestMs >= ordinary.longestMs + aboveMs; again += 1) {
      const next = await measure(task);
      if (next.longestMs < best.longestMs) best = next;
    }
    expect(best.longestMs).toBeLessThan(ordinary.longestMs + aboveMs);
    expect(best.answered).toBeGreaterThan(1);
  }

  async function importArchive(path: string): Promise<{ status: number; message: string }> {
    const answer = await fetch(`${url}/v1/boxes/import`, { method: 'POST', body: await readFile(path) });
    const { error } = (await answer.json()) as { error: { message: string } };
    return { status: answer.status, message: error.message };
  }

  it('to import gigabytes of zeros that are nowhere, others are answered', async () => {
    const path = await packHoles(await temporaryDirectory(), { sizeBytes: GIB });
    await isFair(async () => {
      expect(await importArchive(path)).toMatchObject({
        status: 400,
        message: expect.stringMatching(/hash of its manifest/),
      });
    });
  });

  it('to import a disk beyond the size of its box, nothing is read of it', async () => {
    const path = await packHoles(await temporaryDirectory(), { sizeBytes: 256 * GIB, diskSizeGb: 10 });
    await isFair(async () => {
      expect(await importArchive(path)).toMatchObject({
        status: 400,
        message: expect.stringMatching(/larger than the \d+ of a box/),
      });
    });
  });

  it('to import more holes than an archive of its length may have, the end comes soon', async () => {
    const path = await packHoles(await temporaryDirectory(), { sizeBytes: 200 * GIB });
    await isFair(async () => {
      expect(await importArchive(path)).toMatchObject({
        status: 400,
        message: expect.stringMatching(/nothing but holes/),
      });
    });
  });

  it('to import half a million empty stretches, others are answered', async () => {
    const path = await packHoles(await temporaryDirectory(), { sizeBytes: 2 ** 20, ranges: 2 ** 19 - 64 });
    await isFair(async () => {
      expect(await importArchive(path)).toMatchObject({
        status: 400,
        message: expect.stringMatching(/hash of its manifest/),
      });
    });
  });

  it.each([
    ['empty', 0, 300_000],
    ['tiny', 1, 100_000],
  ])('to take %s messages without end, others are answered', async (_what, bytes, count) => {
    await isFair(async () => {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/boxes/main/exec`);
      await once(socket, 'open');
      socket.on('error', () => undefined);
      const closed = once(socket, 'close');
      const attached = once(socket, 'message');
      socket.send(JSON.stringify({ type: 'exec', argv: ['sleep', '1000'], stdin: true }));
      expect(JSON.parse(String((await attached)[0]))).toMatchObject({ type: 'attached' });
      // What the command never reads blocks its input.
      socket.send(Buffer.alloc(2 ** 20));
      for (let sent = 0; sent < count; sent += 1) socket.send(Buffer.alloc(bytes));
      // The server reads what it takes; a second of it shows whether others are answered.
      await once(AbortSignal.timeout(1000), 'abort');
      socket.terminate();
      await closed;
      expect((await box.exec(['echo', 'here'])).exitCode).toBe(0);
    });
  });

  it('with texts of a million values, they are refused unread', async () => {
    const many = `[${'1,'.repeat(400_000)}1]`;
    const deep = '['.repeat(400_000);
    await isFair(async () => {
      for (const body of [`{"command":"true","args":${many}}`, `{"command":${deep}`]) {
        const headers = { 'content-type': 'application/json' };
        const answer = await fetch(`${url}/v1/boxes/main/exec`, { method: 'POST', headers, body });
        expect(answer.status).toBe(400);
        expect(((await answer.json()) as { error: { message: string } }).error.message).toMatch(/more than/);
      }
      for (const text of [`{"type":"exec","argv":${many}}`, deep, 'x'.repeat(8 * 2 ** 20)]) {
        const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/boxes/main/exec`);
        await once(socket, 'open');
        const said = once(socket, 'message');
        socket.send(text);
        expect(JSON.parse(String((await said)[0]))).toMatchObject({
          type: 'error',
          code: 'invalid_argument',
        });
        socket.terminate();
      }
    }, longestMessageMs);
  });

  it('for a list of many files, others are answered, and it is whole', async () => {
    const tar = pack();
    for (let i = 0; i < manyFiles; i += 1) tar.entry({ name: `many/${i}` }, '');
    tar.finalize();
    await box.files.unpack('/root/', tar as AsyncIterable<Buffer>);
    await isFair(async () => {
      const answer = await fetch(`${url}/v1/boxes/main/files/list?path=/root/many`);
      const entries = (await answer.json()) as { path: string }[];
      const names = Array.from({ length: manyFiles }, (_, i) => `/root/many/${i}`).sort();
      expect(entries.map(({ path }) => path)).toEqual(names);
    });
  });
});
