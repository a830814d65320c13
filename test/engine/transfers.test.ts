import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box, Files, Runtime } from '../../src/api/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { createServer, type Server } from '../../src/server/index.js';
import { output, TestEngine } from './support.js';

/** Of each kind. `npm run test:transfers` does 200 of each, which takes a quarter of an hour. */
const rounds = Number(process.env['CRYOBOX_TRANSFERS'] ?? 12);
const timeoutMs = 60_000 + rounds * 1200;
/** Under way at once: fewer than the agent has threads for, so that each of them begins. */
const atOnce = 4;
/** More than is ever on its way: an abort comes before the guest is done. */
const fileBytes = 900_000;
/** How long a client may be silent in an upload; in reality it is a minute. */
const uploadIdleMs = 1000;

/** The same numbers in every run, so that a failure comes back. */
let state = 7;
const below = (limit: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};
const content = Buffer.from(Array.from({ length: fileBytes }, () => below(256)));

const engine = new TestEngine();
let server: Server;
let url: URL;
let remote: Runtime;
let box: Box;
let host: string;
let tar: Buffer;

beforeAll(async () => {
  const runtime = engine.runtime;
  server = createServer({
    runtimeFor: () => runtime,
    authenticator: null,
    limits: { uploadIdleMs, requestsPerSecond: null },
  });
  url = new URL((await server.listen({ port: 0 })).url);
  remote = connectRuntime({ url: url.origin });
  box = await runtime.create({ image: 'tiny', name: 'main', detach: true });
  await box.files.write('/root/t/large', Buffer.concat([content, content, content]));
  await box.files.write('/root/t/kept', 'old');
  await box.files.write('/root/t/tree/a', content);
  await box.files.write('/root/t/tree/b', content);
  const packed: Uint8Array[] = [];
  for await (const chunk of await box.files.pack('/root/t/tree')) packed.push(chunk);
  tar = Buffer.concat(packed);
  host = await mkdtemp(join(tmpdir(), 'cryobox-transfers-'));
  await writeFile(join(host, 'file'), content);
}, 120_000);

afterAll(async () => {
  await remote.close();
  await server.close();
  await rm(host, { recursive: true });
});

/** What the agent, process 1 of the guest, holds, and what is in the directory: counted in the guest. */
async function held(): Promise<string> {
  return await output(
    box,
    `echo threads $(ls /proc/1/task | wc -l) descriptors $(ls /proc/1/fd | wc -l)
     for fd in /proc/1/fd/*; do readlink $fd; done | tr -d 0-9 | sort
     find /root /tmp -exec stat -c '%n %s' {} +`,
  );
}

/** Does a task many times, some at once, and compares what is held afterwards. */
async function leavesNothing(task: () => Promise<void>, together = atOnce): Promise<void> {
  const before = await held();
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun < rounds) {
      begun += 1;
      await task();
    }
  };
  await Promise.all(Array.from({ length: together }, worker));
  await expect.poll(held, { timeout: 30_000, interval: 300 }).toBe(before);
  expect(before).toMatch(/^threads 1 descriptors \d+\n/);
  expect(String(await box.files.read('/root/t/kept'))).toBe('old');
}

async function open(head: string): Promise<Socket> {
  const socket = connect(Number(url.port), url.hostname);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`${head} HTTP/1.1\r\nhost: ${url.host}\r\n`);
  return socket;
}

/** In order or by a reset: a process that is killed does the first, a host that is gone the second. */
function kill(socket: Socket): void {
  if (below(2) === 0) socket.destroy();
  else socket.resetAndDestroy();
}

async function begunUpload(path: string, body: Buffer): Promise<Socket> {
  const socket = await open(`PUT /v1/boxes/main/${path}`);
  socket.write(`content-length: ${body.length}\r\n\r\n`);
  const cut = body.subarray(0, below(body.length - 1));
  await new Promise<void>((resolve) => socket.write(cut, () => resolve()));
  return socket;
}

/** Reads to a point of the answer. */
async function begunDownload(path: string): Promise<Socket> {
  const socket = await open(`GET /v1/boxes/main/${path}`);
  socket.write('\r\n');
  let rest = 1 + below(fileBytes);
  while (rest > 0) rest -= ((await once(socket, 'data')) as [Buffer])[0].length;
  return socket;
}

describe('transfers over REST that are cut off leave nothing in the guest', { timeout: timeoutMs }, () => {
  const uploads: Record<string, () => Promise<Socket>> = {
    'a new file': () => begunUpload('files/content?path=/root/t/new/x', content),
    'a file that is replaced': () => begunUpload('files/content?path=/root/t/kept', content),
    'a tree to a new directory': () => begunUpload('files?path=/root/t/unpacked/here', tar),
  };
  for (const [what, begin] of Object.entries(uploads)) {
    it(`when the client is killed in the upload of ${what}`, async () => {
      await leavesNothing(async () => kill(await begin()));
    });
    it(`when the client goes silent in the upload of ${what}`, async () => {
      await leavesNothing(async () => {
        const socket = await begin();
        let answer = '';
        socket.on('data', (bytes) => {
          answer += bytes;
          if (answer.includes('\r\n\r\n')) socket.destroy();
        });
        await once(socket, 'close');
        expect(answer).toMatch(/^HTTP\/1\.1 (408|504) /);
      }, 20);
    });
  }

  for (const path of ['files/content?path=/root/t/large', 'files?path=/root/t/tree']) {
    it(`when the client is killed in the download of ${path}`, async () => {
      await leavesNothing(async () => kill(await begunDownload(path)));
    });
  }
});

type Ending = { readonly signal: AbortSignal; readonly reached: () => unknown };
const never = (): Promise<never> => new Promise(() => undefined);

async function* upTo(bytes: Buffer, reached: () => unknown): AsyncGenerator<Uint8Array> {
  const end = below(bytes.length - 1);
  for (let at = 0; at < end; at += 40_000) yield bytes.subarray(at, Math.min(end, at + 40_000));
  await reached();
}

async function readUpTo(source: Promise<AsyncIterable<Uint8Array>>, reached: () => unknown): Promise<void> {
  let rest = below(fileBytes);
  for await (const chunk of await source) {
    rest -= chunk.length;
    if (rest <= 0) reached();
  }
}

const transfers: Record<string, (files: Files, ending: Ending) => Promise<unknown>> = {
  write: (files, { signal, reached }) => files.write('/root/t/new/x', upTo(content, reached), { signal }),
  unpack: (files, { signal, reached }) => files.unpack('/root/t/unpacked', upTo(tar, reached), { signal }),
  copyIn: (files, { signal, reached }) => {
    const at = below(fileBytes);
    const onProgress = ({ doneBytes = 0 }): void => {
      if (doneBytes > at) reached();
    };
    return files.copyIn(join(host, 'file'), '/root/t/copied', { signal, onProgress });
  },
  readStream: (files, { signal, reached }) =>
    readUpTo(files.readStream('/root/t/large', { signal }), reached),
  pack: (files, { signal, reached }) => readUpTo(files.pack('/root/t/tree', { signal }), reached),
  copyOut: (files, { signal, reached }) =>
    files.copyOut('/root/t/large', join(host, `out${below(2 ** 31)}`), {
      signal,
      onProgress: () => reached(),
    }),
};

const ways: Record<string, () => Runtime> = { embedded: () => engine.runtime, remote: () => remote };
async function boxOf(way: string): Promise<Box> {
  return (await ways[way]?.().get('main')) ?? expect.unreachable();
}

describe.each(Object.keys(ways))(
  'transfers of the SDK that are given up, %s, leave nothing in the guest',
  (way) => {
    it.each(Object.keys(transfers))('when %s is aborted', { timeout: timeoutMs }, async (name) => {
      const { files } = await boxOf(way);
      await leavesNothing(async () => {
        const gone = new AbortController();
        const reached = () => {
          gone.abort();
          return never();
        };
        await expect(transfers[name]?.(files, { signal: gone.signal, reached })).rejects.toMatchObject({
          code: 'cancelled',
        });
      });
    });

    it('when their time is up', { timeout: timeoutMs }, async () => {
      const { files } = await boxOf(way);
      await leavesNothing(async () => {
        const signal = AbortSignal.timeout(50 + below(300));
        const names = Object.keys(transfers);
        const name = names[below(names.length)] ?? '';
        // Those that are quick come to their end.
        const ending = {
          signal,
          reached: () => (name === 'write' || name === 'unpack' ? never() : undefined),
        };
        const told = await transfers[name]?.(files, ending).then(
          () => null,
          (error: unknown) => error,
        );
        if (told !== null) expect(told).toMatchObject({ code: 'cancelled' });
        await box.files.remove('/root/t/copied').catch(() => undefined);
      });
    });
  },
);
