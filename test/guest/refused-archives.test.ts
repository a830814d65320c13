import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from './host-agent.js';

type Member = Parameters<ReturnType<typeof pack>['entry']>[0] & { readonly content?: string | Buffer };

async function archive(members: readonly Member[]): Promise<Buffer> {
  const tar = pack();
  for (const { content = '', ...header } of members) tar.entry(header, content);
  tar.finalize();
  return await buffer(tar);
}

const outside: Member = { name: '../x', content: 'out' };
/** One of each kind, in directories that are named, are not named, and are reached through a link. */
const tree: readonly Member[] = [
  { name: './', type: 'directory', mode: 0o755 },
  { name: 'sub/', type: 'directory', mode: 0o500 },
  { name: 'sub/file', content: Buffer.alloc(150_000, 'f') },
  { name: 'way/to/file', content: 'implied' },
  { name: 'link', type: 'symlink', linkname: 'sub' },
  { name: 'link/behind/file', content: 'behind' },
  { name: 'hard', type: 'link', linkname: 'sub/file' },
  { name: 'fifo', type: 'fifo' },
  { name: 'twice', content: 'first' },
  { name: 'twice', content: 'second' },
  { name: 'empty/', type: 'directory' },
];

describe('an archive that is not unpacked to its end', () => {
  let agent: HostAgent;
  let client: AgentClient;
  let root: string;
  const at = (name: string) => join(root, name);
  const listing = async () => (await readdir(root, { recursive: true })).sort();

  beforeEach(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
    root = join(agent.directory, 'root');
    await mkdir(join(root, 'old/sub'), { recursive: true });
    await writeFile(at('old/mine'), 'mine');
  });
  afterEach(() => agent.stop());

  const bad: Record<string, (members: readonly Member[]) => Promise<Buffer>> = {
    'a member that leads out': (members) => archive([...members, outside, { name: 'after', content: '' }]),
    'a link to nothing': (members) =>
      archive([...members, { name: 'h', type: 'link', linkname: 'not/there' }]),
    'a directory in the place of a file': (members) =>
      archive([...members, { name: 'f', content: '' }, { name: 'f/', type: 'directory' }]),
    'a damaged header': async (members) => {
      const whole = await archive([...members, { name: 'last', content: 'x' }]);
      // The last member's header stands before its content and the two empty blocks of the end.
      whole[whole.lastIndexOf('last') + 20] = 1;
      return whole;
    },
    'an end within a file': async (members) =>
      (await archive([...members, { name: 'last', content: Buffer.alloc(100_000, 'x') }])).subarray(
        0,
        -50_000,
      ),
  };

  for (const [what, make] of Object.entries(bad)) {
    for (const [where, members] of Object.entries({
      'as its first': [],
      'after one file': [{ name: 'one', content: 'alone' }],
      'after a tree': tree,
    })) {
      it.each(['new', 'new/deep/er', 'new/', 'old', 'old/sub'])(
        `leaves nothing it made: ${what} ${where}, to %s`,
        async (target) => {
          const before = await listing();
          const tar = await make(members);
          await expect(
            client.files.unpack(at(target), [tar], { renameSingle: true, keepOwner: true }),
          ).rejects.toThrow();
          expect(await listing()).toEqual(before);
          expect(await readFile(at('old/mine'), 'utf8')).toBe('mine');
        },
      );
    }
  }

  it('leaves what it replaced whole, and what others put beside it', async () => {
    await writeFile(at('old/twice'), 'before');
    await symlink('elsewhere', at('old/link2'));
    async function* slowly(): AsyncGenerator<Buffer> {
      const tar = await archive([...tree, { name: 'last', content: Buffer.alloc(100_000) }, outside]);
      const cut = tar.lastIndexOf('last') + 20_000;
      yield tar.subarray(0, cut);
      // Whoever finds a directory may use it.
      await expect.poll(() => readdir(at('old/empty')).catch(() => null)).toEqual([]);
      await writeFile(at('old/empty/theirs'), 'theirs');
      yield tar.subarray(cut);
    }
    await expect(client.files.unpack(at('old'), slowly())).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    expect(await listing()).toEqual(
      ['old', 'old/empty', 'old/empty/theirs', 'old/link2', 'old/mine', 'old/sub', 'old/twice'].sort(),
    );
    expect(await readFile(at('old/twice'), 'utf8')).toBe('second');
  });

  it('leaves nothing of thousands of files when its caller gives up', async () => {
    const before = await listing();
    const many = Array.from({ length: 3000 }, (_, i) => ({ name: `d${i % 100}/s/f${i}`, content: `${i}` }));
    const tar = await archive(many);
    const gone = new AbortController();
    async function* cut(): AsyncGenerator<Buffer> {
      yield tar.subarray(0, tar.length - 5000);
      await expect.poll(async () => (await readdir(at('new'))).length).toBe(100);
      gone.abort();
      await new Promise(() => undefined);
    }
    await expect(client.files.unpack(at('new'), cut(), { signal: gone.signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
    await expect.poll(listing, { timeout: 10_000 }).toEqual(before);
  });
});
