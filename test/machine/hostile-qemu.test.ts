/** A QEMU that a guest has taken over can say anything on its control socket: the engine refuses it, and serves others. */
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { activeHeads, replaceBacking } from '../../src/machine/block.js';
import { QmpClient } from '../../src/machine/index.js';
import { longestTurnMs } from '../support/longest-turn.js';
import { socketPair } from '../support/socket-pair.js';

/** Turns end after 8 ms; the longest line, the collector and what V8 compiles come on top. */
const allowedMs = 30;

/** Took a second of one turn as long as everything that had come was handled in one. */
const floodBytes = 2 ** 20;

interface Command {
  readonly execute: string;
  readonly id: number;
}

/** A session with a QEMU that says what a test says, after the handshake. */
async function session(answer: (socket: Socket, command: Command) => unknown): Promise<QmpClient> {
  const [ours, theirs] = await socketPair();
  theirs.on('data', (bytes) => {
    for (const line of bytes.toString().trim().split('\n')) {
      const command = JSON.parse(line) as Command;
      if (command.execute === 'qmp_capabilities') theirs.write(`{"return":{},"id":${command.id}}\n`);
      else answer(theirs, command);
    }
  });
  theirs.write('{"QMP":{}}\n');
  return await QmpClient.attach(ours);
}

const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;

describe('what is no message', () => {
  it.each([
    'null\n',
    '7\n',
    '[]\n',
    '"x"\n',
    '{"event":5}\n',
    '{"event":"RESUME","data":5}\n',
    '{"error":{"class":1},"id":2}\n',
    '{"error":null,"id":2}\n',
    `{"return":${deep(20_000)},"id":2}\n`,
    `{"return":[${'1,'.repeat(100_000)}1],"id":2}\n`,
    `{"return":"${'x'.repeat(3 * 2 ** 20)}`,
    'no JSON\n',
  ])('ends the session with a typed error: %#', async (text) => {
    const qmp = await session((socket) => socket.write(text));
    const asked = qmp.execute('query-status');
    await expect(asked).rejects.toMatchObject({ code: 'machine_failed' });
    await qmp.closed;
    expect(qmp.closedBy).toMatchObject({ code: 'machine_failed' });
  });
});

describe('answers of another shape', () => {
  const shapes = [null, 5, {}, [null], [{ inserted: 5, 'node-name': 5 }], [{ 'node-name': 5, inserted: {} }]];
  it.each(shapes)('are refused, and the session goes on: %j', async (shape) => {
    const qmp = await session((socket, { id, execute }) => {
      const known = execute === 'query-version' ? { known: true } : shape;
      socket.write(`${JSON.stringify({ return: known, id })}\n`);
    });
    await expect(activeHeads(qmp)).rejects.toMatchObject({ code: 'machine_failed' });
    const head = { id: 'lyr_a', format: 'qcow2' } as const;
    const change = replaceBacking(qmp, 'disk', { head, backing: { id: 'lyr_b', format: 'raw' }, old: [] });
    await expect(change).rejects.toMatchObject({ code: 'machine_failed' });
    expect(await qmp.execute('query-version')).toEqual({ known: true });
    qmp.close();
  });

  it.each(['json:null', 'json:{"file":7}', `json:${deep(5000)}`, 'json:{', 'json:[]'])(
    'of a disk have no head: %#',
    async (filename) => {
      const inserted = { 'node-name': 'disk', image: { filename } };
      const qmp = await session((socket, { id }) =>
        socket.write(`${JSON.stringify({ return: [{ inserted }], id })}\n`),
      );
      expect(await activeHeads(qmp)).toEqual({});
      qmp.close();
    },
  );
});

describe('without end', () => {
  const event = '{"event":"BLOCK_JOB_READY","data":{"device":"x"}}\n';
  it.each([
    ['events', event],
    ['answers to nobody', '{"return":{},"id":9999}\n'],
    ['empty lines', '\n'],
    ['lines as long as they may be', `{"event":"X","data":{"x":[${'1,'.repeat(65_000)}1]}}\n`],
    ['one long text', `{"event":"X","data":{"x":"${'\\u0041'.repeat(300_000)}"}}\n`],
  ])('%s are handled in turns', async (_what, line) => {
    const flood = line.repeat(Math.ceil(floodBytes / line.length));
    const qmp = await session((socket, { id }) => {
      socket.write(flood);
      socket.write(`{"return":"behind it","id":${id}}\n`);
    });
    const longest = await longestTurnMs(async () => {
      expect(await qmp.execute('query-status')).toBe('behind it');
    });
    expect(longest).toBeLessThan(allowedMs);
    qmp.close();
  });
});
