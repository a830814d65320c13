/** Whoever is root in a box can speak in the agent's place: the engine refuses what is wrong, and serves others. */
import { describe, expect, it } from 'vitest';
import { Listing } from '../../src/engine/commands/listing.js';
import { encodeFrame } from '../../src/guest/frames.js';
import type { AgentClient } from '../../src/guest/index.js';
import { longestTurnMs } from '../support/longest-turn.js';
import { type HostilePeer, hostileClient } from './hostile-peer.js';

/** Turns end after 8 ms; the last step, the collector and what V8 compiles come on top. Without turns it was seconds. */
const allowedMs = 30;

/** A frame whose header is this text. */
function textFrame(text: string): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(Buffer.byteLength(text), 0);
  return Buffer.concat([head, Buffer.from(text)]);
}

const entry = { name: 'a', type: 'file', size: 1, mode: 0o644, uid: 0, gid: 0, mtimeMs: 0, linkTarget: null };
const line = (value: unknown) => Buffer.from(`${JSON.stringify(value)}\n`);
const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
const many = (values: number) => `[${'1,'.repeat(values)}1]`;
const ended = { exec: 'a', code: 0, signal: null, timedOut: false, startedAtUnixMs: 1, durationMs: 1 };

type Ask = (client: AgentClient) => Promise<unknown>;
async function listAll(client: AgentClient): Promise<unknown> {
  const listing = new Listing('/d');
  for await (const info of client.files.list('/d')) listing.add(info);
  return await listing.sorted();
}
const requests: Record<string, Ask> = {
  'fs.stat': (client) => client.files.stat('/a'),
  'fs.write': (client) => client.files.write('/a', [Buffer.from('x')]),
  'fs.readlink': (client) => client.files.readSymlink('/a'),
  'tar.unpack': (client) => client.files.unpack('/a', [Buffer.alloc(1024)]),
  'exec.start': (client) => client.executions.start({ id: 'x', argv: ['true'] }),
  'exec.attach': (client) => client.executions.attach('x'),
  'exec.get': (client) => client.executions.get('x'),
  'exec.list': (client) => client.executions.list(),
  'sys.metrics': (client) => client.system.metrics(),
};

describe('wrong answers', () => {
  const values = [
    {},
    [],
    { pid: 'x', bytes: -1, entries: 'many', target: 7, executions: {}, more: 1, name: 5 },
    { pid: -1, bytes: 2 ** 60, executions: [{}], more: false, target: null },
    { executions: Array.from({ length: 200 }, () => ({})), more: true, pid: null },
    { executions: Array.from({ length: 4000 }, () => 1), more: true },
    { network: Array.from({ length: 1024 }, () => ({})), cpu: {}, memory: {}, disk: {} },
    { pid: 1, stdoutAt: 'x', stdin: 'yes' },
    Object.fromEntries(Array.from({ length: 3000 }, (_, at) => [`k${at}`, 1])),
  ];
  for (const [op, ask] of Object.entries(requests)) {
    it(`to ${op} are refused, and the next request is answered`, async () => {
      let answer: unknown;
      const client = await hostileClient((peer, request) =>
        peer.ok(request, request.op === 'sys.ping' ? { echo: request.echo } : answer),
      );
      for (const value of values) {
        answer = value;
        await expect(ask(client), JSON.stringify(value).slice(0, 80)).rejects.toMatchObject({
          code: 'agent_mismatch',
          hint: expect.stringContaining('Stop and start the box'),
        });
      }
      expect(await client.system.ping('here')).toBe('here');
    });
  }

  it.each([null, 7, {}, { agentVersion: 1 }, { agentVersion: 'x', build: 'y', state: 'odd', run: null }])(
    'to hello are refused: %j',
    async (hello) => {
      await expect(hostileClient(() => undefined, hello)).rejects.toMatchObject({ code: 'agent_mismatch' });
    },
  );

  it('that are errors tell at most a path and a sentence, and only codes of an agent', async () => {
    const client = await hostileClient((peer, request) =>
      peer.frame({ re: request.id, error: { code: 'disk_full', message: 'x'.repeat(60_000), hint: 5 } }),
    );
    const failure = await client.files.stat('/a').catch((error: Error) => error);
    expect(failure).toMatchObject({ code: 'disk_full' });
    expect((failure as Error).message.length).toBeLessThan(33_000);
  });
});

describe('frames that are none', () => {
  it.each([
    ['deep', textFrame(`{"re":1,"ok":${deep(20_000)}}`)],
    ['of thousands of values', textFrame(`{"re":1,"ok":${many(30_000)}}`)],
    ['no JSON', textFrame('{"re":')],
    ['no object', textFrame('[1]')],
    ['without a header', Buffer.alloc(8)],
    ['too long', Buffer.alloc(8, 0xff)],
    ['an end with wrong members', textFrame('{"ev":"exit","exec":5}')],
    ['a stream out of turn', textFrame('{"s":1,"at":5}')],
  ])('end the connection with a typed error: %s', async (_what, bytes) => {
    const client = await hostileClient((peer) => peer.send(bytes));
    const reading = listAll(client);
    await expect(reading).rejects.toMatchObject({ code: 'agent_mismatch' });
    expect(await client.closed).toMatchObject({ code: 'agent_mismatch' });
    await expect(client.system.ping('x')).rejects.toMatchObject({ code: 'agent_mismatch' });
  });
});

describe('without end', () => {
  /** Floods the client until it has handled all of it: an answer comes behind. */
  async function flooded(bytes: Buffer): Promise<number> {
    let flood: ((peer: HostilePeer) => Promise<void>) | undefined = async (peer) => await peer.send(bytes);
    const client = await hostileClient(async (peer, request) => {
      await flood?.(peer);
      flood = undefined;
      await peer.ok(request, { echo: request.echo });
    });
    return await longestTurnMs(async () => {
      expect(await client.system.ping('behind it')).toBe('behind it');
    });
  }

  it.each([
    ['empty frames', textFrame('{}')],
    ['ends of what does not run', Buffer.concat(encodeFrame({ ev: 'exit', ...ended }))],
    ['answers to nobody', textFrame('{"re":9999,"ok":{}}')],
    ['data of no stream', textFrame('{"s":9999,"at":0}')],
    ['large headers', textFrame(`{"x":${many(8000)}}`)],
  ])('%s are handled in turns', async (_what, frame) => {
    const flood = Buffer.alloc(2 ** 21 - (2 ** 21 % frame.length), frame);
    expect(await flooded(flood)).toBeLessThan(allowedMs);
  });

  it.each([
    ['a list', Buffer.concat(Array.from({ length: 200 }, () => line(entry)))],
    ['a list in frames of a few bytes', Buffer.from('x')],
    ['a list of one entry', Buffer.alloc(32_768, 'x')],
    ['a list of empty lines', Buffer.alloc(32_768, '\n')],
    ['a list of deep entries', Buffer.from(`${deep(10_000)}\n`)],
    ['a list of long names', line({ ...entry, name: 'x'.repeat(20_000) })],
  ])('%s is refused, and others have turns', async (_what, piece) => {
    const client = await hostileClient((peer, request) => peer.stream(Number(request.stream), piece));
    const longest = await longestTurnMs(async () => {
      await expect(listAll(client)).rejects.toMatchObject({
        code: expect.stringMatching(/^(payload_too_large|agent_mismatch)$/),
      });
    });
    expect(longest).toBeLessThan(allowedMs);
  });

  it('pages of executions are not followed', async () => {
    let pages = 0;
    const client = await hostileClient(async (peer, request) => {
      pages += 1;
      const { durationMs, ...rest } = ended;
      const info = {
        ...rest,
        pid: 1,
        command: '',
        tty: false,
        state: 'running',
        attached: false,
        durationMs,
      };
      await peer.ok(request, { executions: [info], more: true });
    });
    expect((await client.executions.list()).length).toBeLessThan(5000);
    expect(pages).toBeLessThan(5000);
  });

  it('what comes before the end of the connection is handled before it is told', async () => {
    const pieces = 50_000;
    const client = await hostileClient(async (peer) => {
      const flood = Buffer.concat([
        Buffer.alloc(pieces * 10, textFrame('{}')),
        ...encodeFrame({ ev: 'exit', ...ended }),
      ]);
      await peer.send(flood);
      peer.hangUp();
    });
    const starting = client.executions.start({ id: 'a', argv: ['true'] });
    await expect(starting).rejects.toMatchObject({ code: 'machine_failed' });
  });
});
