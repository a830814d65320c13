import { readdirSync, readlinkSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from './host-agent.js';

const rounds = 200;
const fileBytes = 700_000;

/** The same numbers in every run, so that a failure comes back. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const never = () => new Promise<never>(() => undefined);

/** Bytes up to a point, and then `then`. */
async function* upTo(content: Buffer, at: number, then: () => unknown): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < at; done += 40_000) yield content.subarray(done, Math.min(at, done + 40_000));
  await then();
}

describe('a transfer that ends early', () => {
  let agent: HostAgent;
  let client: AgentClient;
  let root: string;
  let content: Buffer;
  let tar: Buffer;
  let single: Buffer;
  let random: (below: number) => number;
  const at = (name: string) => join(root, name);

  /** What the agent holds: its threads, its descriptors, what is in the directory. */
  function held() {
    const threads = readdirSync(`/proc/${agent.pid}/task`).length;
    const descriptors: string[] = [];
    for (const fd of readdirSync(`/proc/${agent.pid}/fd`)) {
      try {
        descriptors.push(readlinkSync(`/proc/${agent.pid}/fd/${fd}`).replace(/\d+/g, 'N'));
      } catch {
        // Closed meanwhile.
      }
    }
    return { threads, descriptors: descriptors.sort(), names: readdirSync(root).sort() };
  }

  beforeEach(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
    root = join(agent.directory, 'root');
    await mkdir(join(root, 'tree'), { recursive: true });
    random = numbers(7);
    content = Buffer.from(Array.from({ length: fileBytes }, () => random(256)));
    await writeFile(at('kept'), 'old');
    // More than is ever on its way: an abort comes before the guest is done.
    await writeFile(at('large'), Buffer.concat([content, content, content]));
    for (const name of ['a', 'b']) await writeFile(at(`tree/${name}`), content);
    tar = await buffer(client.files.pack(at('tree')).stream);
    single = await buffer(client.files.pack(at('tree/a')).stream);
    // What packed them may still be about to end.
    await expect.poll(() => held().threads).toBe(1);
  });
  afterEach(() => agent.stop());

  /** Reads up to a point, and then calls `then` and reads on. */
  async function readUpTo(stream: AsyncIterable<Uint8Array>, at: number, then: () => unknown) {
    let done = 0;
    let called = false;
    for await (const chunk of stream) {
      done += chunk.length;
      if (done < at || called) continue;
      called = true;
      then();
    }
  }

  type Ends = { signal: AbortSignal; then: () => unknown };
  const kinds: Record<string, (ends: Ends) => Promise<unknown>> = {
    'a new file written': ({ signal, then }) =>
      client.files.write(at('new/x'), upTo(content, random(fileBytes), then), {
        signal,
        createParents: true,
      }),
    'a file replaced': ({ signal, then }) =>
      client.files.write(at('kept'), upTo(content, random(fileBytes), then), { signal }),
    'a file read': ({ signal, then }) =>
      readUpTo(client.files.read(at('large'), { signal }), random(fileBytes), then),
    'a tree packed': ({ signal, then }) =>
      readUpTo(client.files.pack(at('tree'), { signal }).stream, random(fileBytes), then),
    'a tree unpacked': ({ signal, then }) =>
      // One of the two files is cut, or the end of the archive.
      client.files.unpack(at('tree'), upTo(tar, random(tar.length), then), { signal, keepOwner: true }),
    'one file unpacked': ({ signal, then }) =>
      client.files.unpack(at('one'), upTo(single, random(fileBytes), then), {
        signal,
        renameSingle: true,
      }),
  };

  for (const [name, run] of Object.entries(kinds)) {
    it(`leaves nothing: ${name}, ended by its signal`, async () => {
      const before = held();
      for (let round = 0; round < rounds; round += 1) {
        const gone = new AbortController();
        const then = () => {
          gone.abort();
          return never();
        };
        await expect(run({ signal: gone.signal, then })).rejects.toMatchObject({ code: 'cancelled' });
      }
      await expect.poll(held, { timeout: 10_000 }).toEqual(before);
      expect(await readFile(at('kept'), 'utf8')).toBe('old');
      expect((await buffer(client.files.read(at('tree/a')))).equals(content)).toBe(true);
    });

    it(`leaves nothing: ${name}, ended with its connection`, async () => {
      const before = held();
      for (let round = 0; round < 20; round += 1) {
        const mine = client;
        const never = new AbortController();
        const then = () => mine.close();
        await run({ signal: never.signal, then }).catch(() => undefined);
        client = await agent.connect();
      }
      await expect.poll(held, { timeout: 10_000 }).toEqual(before);
      expect(await readFile(at('kept'), 'utf8')).toBe('old');
    });
  }

  it('takes no directory away from another that began to use it', async () => {
    for (let round = 0; round < rounds; round += 1) {
      const gone = new AbortController();
      const given = client.files.write(
        at(`shared${round}/deep/given-up`),
        upTo(content, random(fileBytes), () => {
          gone.abort();
          return never();
        }),
        { signal: gone.signal, createParents: true },
      );
      const kept = client.files.write(at(`shared${round}/deep/kept`), [content], { createParents: true });
      const [lost, done] = await Promise.allSettled([given, kept]);
      expect(lost).toMatchObject({ status: 'rejected', reason: { code: 'cancelled' } });
      expect(done).toEqual({ status: 'fulfilled', value: content.length });
      expect(await readdir(at(`shared${round}/deep`))).toEqual(['kept']);
    }
  });

  it('leaves nothing when its reader goes, its source breaks or its time is up', async () => {
    const before = held();
    for (let round = 0; round < rounds; round += 1) {
      for await (const _ of client.files.read(at('large'))) break;
      for await (const _ of client.files.pack(at('tree')).stream) break;
      const broken = upTo(content, random(fileBytes), () => {
        throw new Error('the source broke');
      });
      await expect(client.files.write(at('x'), broken)).rejects.toThrow('the source broke');
    }
    await Promise.all(
      Array.from({ length: 40 }, async () => {
        const source = upTo(content, random(fileBytes), never);
        await expect(client.files.write(at('x'), source, { timeoutMs: 300 })).rejects.toMatchObject({
          code: 'timeout',
        });
      }),
    );
    await expect.poll(held, { timeout: 10_000 }).toEqual(before);
  });

  it('leaves nothing when the guest itself refuses', async () => {
    const before = held();
    for (let round = 0; round < rounds; round += 1) {
      const source = () => upTo(content, fileBytes, () => undefined);
      await expect(client.files.write(at('none/x'), source())).rejects.toMatchObject({ code: 'not_found' });
      await expect(client.files.write(at('tree'), source())).rejects.toMatchObject({
        code: 'invalid_argument',
      });
      await expect(client.files.unpack(at('kept/x'), [tar])).rejects.toMatchObject({
        code: 'invalid_argument',
      });
      await expect(buffer(client.files.read(at('none')))).rejects.toMatchObject({ code: 'not_found' });
    }
    await expect.poll(held, { timeout: 10_000 }).toEqual(before);
  });

  it('gives its place back also before it has begun', async () => {
    const before = held();
    const gone = Array.from({ length: 60 }, () => new AbortController());
    // More than run at once: those that wait are told too. Nobody reads any of them.
    const readers = gone.map(({ signal }) => client.files.read(at('large'), { signal }));
    // What is short overtakes what waits.
    expect(await client.files.stat(at('kept'))).toMatchObject({ size: 3 });
    for (const controller of gone) controller.abort();
    await Promise.allSettled(readers.map((stream) => buffer(stream)));
    expect(String(await buffer(client.files.read(at('kept'))))).toBe('old');
    await expect.poll(held, { timeout: 10_000 }).toEqual(before);
  });

  it('opens no connection for a dial that was given up', async () => {
    const before = held();
    for (let round = 0; round < 20; round += 1) {
      const gone = new AbortController();
      const dialling = client.dial({ port: 1, host: '192.0.2.1', signal: gone.signal });
      await client.system.ping('taken up');
      gone.abort();
      await expect(dialling).rejects.toMatchObject({ code: expect.stringMatching(/cancelled|network/) });
    }
    await expect.poll(held, { timeout: 5000 }).toEqual(before);
  });
});
