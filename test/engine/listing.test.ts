import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sortInTurns } from '../../src/base/sort.js';
import { Listing } from '../../src/engine/commands/listing.js';
import type { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from '../guest/host-agent.js';

/** One more than one answer holds. */
const tooMany = 100_001;

describe('a listing', () => {
  let agent: HostAgent;
  let client: AgentClient;
  let directory: string;

  beforeAll(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
    directory = join(agent.directory, 'many');
    await mkdir(directory);
    for (let at = 0; at < tooMany; at += 1000) {
      const names = Array.from({ length: Math.min(1000, tooMany - at) }, (_, i) => String(at + i));
      await Promise.all(names.map((name) => writeFile(join(directory, name), '')));
    }
  });
  afterAll(() => agent.stop());

  it('of more entries than one answer holds says so, and the agent is asked for no more', async () => {
    const listing = new Listing(directory);
    const listed = async (): Promise<void> => {
      for await (const info of client.files.list(directory)) listing.add(info);
    };
    await expect(listed()).rejects.toMatchObject({
      code: 'payload_too_large',
      details: { path: directory, limit: tooMany - 1 },
      hint: expect.stringContaining('find'),
    });
    expect((await client.files.stat(directory)).type).toBe('directory');
  });

  it('of as many as it holds is sorted with turns for others', async () => {
    const listing = new Listing(directory);
    let left = tooMany - 1;
    for await (const info of client.files.list(directory)) {
      listing.add(info);
      left -= 1;
      if (left === 0) break;
    }
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 1);
    const entries = await listing.sorted();
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
    const paths = entries.map(({ path }) => path);
    expect(paths).toEqual([...paths].sort());
    expect(new Set(paths).size).toBe(tooMany - 1);
  });
});

describe('sorting in turns', () => {
  it.each([0, 1, 4096, 4097, 20_000])('does what sorting does, for %i items', async (length) => {
    const items = Array.from({ length }, (_, at) => ({ key: (at * 7919) % 101, at }));
    const compare = (a: { key: number }, b: { key: number }): number => a.key - b.key;
    expect(await sortInTurns(items, compare)).toEqual([...items].sort(compare));
  });
});
