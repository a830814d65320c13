import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from './host-agent.js';

type TarEntry = Partial<Header> & { name: string; content?: string };

/** More than the agent has threads. */
const many = 40;

function archive(...files: TarEntry[]): Readable {
  const out = pack();
  for (const { content = '', ...header } of files) out.entry(header, content);
  out.finalize();
  return Readable.from(out);
}

const code = (code: string, message?: string) => ({
  code,
  ...(message ? { message: expect.stringContaining(message) } : {}),
});

describe('what is no regular file', () => {
  let agent: HostAgent;
  let client: AgentClient;
  let root: string;
  const children: ChildProcess[] = [];
  const at = (name: string) => join(root, name);
  const threads = () => readdirSync(`/proc/${agent.pid}/task`).length;
  const write = (name: string, content: string | Buffer, options = {}) =>
    client.files.write(at(name), [Buffer.from(content)], options);
  const type = async (name: string) => (await client.files.stat(at(name))).type;

  /** Runs a program until the test ends. */
  function start(script: string): ChildProcess {
    const child = spawn('sh', ['-c', script], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    return child;
  }

  beforeEach(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
    root = join(agent.directory, 'root');
    await mkdir(root);
    expect(spawnSync('mkfifo', [at('fifo')]).status).toBe(0);
    const server = createServer().listen(at('socket'));
    await once(server, 'listening');
    server.unref();
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await agent.stop();
  });

  it('is refused by readers, and holds up nobody', async () => {
    const refused = Array.from({ length: many }, async (_, index) => {
      const name = index % 2 ? 'fifo' : 'socket';
      const reading = buffer(client.files.read(at(name)));
      await expect(reading).rejects.toMatchObject(
        code('unsupported', `is a ${index % 2 ? 'FIFO' : 'socket'}`),
      );
    });
    expect(await text(client.files.read('/etc/hostname'))).toBe(await readFile('/etc/hostname', 'utf8'));
    await Promise.all(refused);
    expect([await type('fifo'), await type('socket')]).toEqual(['fifo', 'socket']);
    await expect.poll(threads).toBe(1);
  });

  it('does not wake the writer of a FIFO', async () => {
    const writer = start('exec 3> fifo; echo opened');
    await expect(buffer(client.files.read(at('fifo')))).rejects.toMatchObject(code('unsupported'));
    await expect(write('fifo', 'x')).rejects.toMatchObject(
      code('unsupported', 'is a FIFO that nobody reads'),
    );
    expect(writer.exitCode).toBeNull();
    expect(String(spawnSync('cat', [at('fifo')], { timeout: 20_000 }).stdout)).toBe('');
    expect(await text(writer.stdout as Readable)).toBe('opened\n');
  });

  it('is packed as what it is, a socket not at all', async () => {
    await writeFile(at('a'), 'a');
    const bytes = await buffer(client.files.pack(root).stream);
    const listed = String(spawnSync('tar', ['-tv'], { input: bytes }).stdout);
    expect(listed).toMatch(/^p.* \.\/fifo$/m);
    expect(listed).not.toContain('socket');
    await expect(buffer(client.files.pack(at('socket')).stream)).rejects.toMatchObject(code('unsupported'));
  });

  it('is written to when it is a FIFO with a reader', async () => {
    const reader = start('cat fifo');
    // The reader opens it when it opens it.
    await expect.poll(() => write('fifo', 'one').catch(() => 0), { timeout: 10_000 }).toBe(3);
    expect(await text(reader.stdout as Readable)).toBe('one');
    const large = Buffer.alloc(1_000_000, 'x');
    const slow = start('head -c 1 fifo > started; wc -c < fifo');
    await expect.poll(() => write('fifo', large).catch(() => 0), { timeout: 10_000 }).toBe(large.length);
    expect(Number(await text(slow.stdout as Readable))).toBeLessThanOrEqual(large.length);
    expect(await type('fifo')).toBe('fifo');
  });

  it('gives the place of a write back that a FIFO does not take', async () => {
    const holder = start('exec 3<> fifo; echo held; exec sleep 600');
    await once(holder.stdout as Readable, 'data');
    const gone = Array.from({ length: many }, () => new AbortController());
    const writes = gone.map(({ signal }) => write('fifo', Buffer.alloc(400_000), { signal }));
    const ends = Promise.allSettled(writes);
    expect(await client.files.stat(at('fifo'))).toMatchObject({ type: 'fifo' });
    for (const controller of gone) controller.abort();
    for (const end of await ends)
      expect(end).toMatchObject({ status: 'rejected', reason: code('cancelled') });
    expect(await text(client.files.read('/etc/hostname'))).toBe(await readFile('/etc/hostname', 'utf8'));
    await expect.poll(threads).toBe(1);
  });

  it('is never replaced by what is written or unpacked', async () => {
    await expect(write('socket', 'x')).rejects.toMatchObject(code('unsupported', 'is a socket'));
    for (const name of ['fifo', 'socket']) {
      const entries: TarEntry[] = [
        { name, content: 'x' },
        { name, type: 'symlink', linkname: 'elsewhere' },
        { name, type: 'directory' },
        { name, type: 'character-device', devmajor: 1, devminor: 3 },
      ];
      for (const entry of entries) {
        const unpacked = client.files.unpack(root, archive(entry));
        await expect(unpacked, `${name} ${entry.type}`).rejects.toMatchObject(code('unsupported', name));
      }
      const linked = archive({ name: 'f', content: 'f' }, { name, type: 'link', linkname: 'f' });
      await expect(client.files.unpack(root, linked)).rejects.toMatchObject(code('unsupported', name));
      const single = client.files.unpack(at(name), archive({ name: 'one', content: '1' }), {
        renameSingle: true,
      });
      await expect(single).rejects.toMatchObject(code('unsupported', name));
    }
    await client.files.unpack(root, archive({ name: 'fifo', type: 'fifo', mode: 0o600 }));
    expect([await type('fifo'), await type('socket')]).toEqual(['fifo', 'socket']);
    expect((await readdir(root)).sort()).toEqual(['fifo', 'socket']);
  });

  it('is read to its end when the kernel gives it no length, and packed with the length it has', async () => {
    const version = await readFile('/proc/version', 'utf8');
    const setting = '/sys/kernel/mm/transparent_hugepage/enabled';
    for (const path of ['/proc/version', setting]) {
      const content = await readFile(path, 'utf8');
      expect(await text(client.files.read(path))).toBe(content);
      const packed = await buffer(client.files.pack(path).stream);
      const unpacked = spawnSync('tar', ['-xO'], { input: packed });
      expect(String(unpacked.stdout), path).toBe(content);
    }
    expect(version).toContain('Linux');
    // Endless in length, but not for who asks for a part.
    const zeros = await buffer(client.files.read('/dev/zero', { lengthBytes: 300_000 }));
    expect(zeros.equals(Buffer.alloc(300_000))).toBe(true);
    expect(await buffer(client.files.read('/dev/null'))).toHaveLength(0);
    await expect(buffer(client.files.pack('/proc/kcore').stream)).rejects.toMatchObject({
      code: expect.stringMatching(/payload_too_large|permission_denied|not_found/),
    });
  });
});

describe('writing where something is', () => {
  let agent: HostAgent;
  let client: AgentClient;
  let root: string;
  const at = (name: string) => join(root, name);
  const write = (name: string, content: string, options = {}) =>
    client.files.write(at(name), [Buffer.from(content)], options);
  const content = (name: string) => readFile(at(name), 'utf8');

  beforeEach(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
    root = join(agent.directory, 'root');
    await mkdir(root);
  });
  afterEach(() => agent.stop());

  it('follows links, also to what is not there yet', async () => {
    await mkdir(at('d'));
    await symlink('d/target', at('dangling'));
    await symlink('dangling', at('chain'));
    await write('chain', 'one');
    expect([await content('d/target'), await readlink(at('dangling')), await readlink(at('chain'))]).toEqual([
      'one',
      'd/target',
      'dangling',
    ]);
    await write('chain', 'two');
    expect(await content('d/target')).toBe('two');
    await symlink(at('new/deep/target'), at('far'));
    await expect(write('far', 'x')).rejects.toMatchObject(code('not_found'));
    await write('far', 'far', { createParents: true });
    expect(await content('new/deep/target')).toBe('far');
    await symlink('loop', at('loop'));
    await expect(write('loop', 'x')).rejects.toMatchObject(code('invalid_argument'));
    await expect(write('slash/', 'x', { createParents: true })).rejects.toMatchObject(
      code('invalid_argument'),
    );
    await symlink('d', at('to-directory'));
    await expect(write('to-directory', 'x')).rejects.toMatchObject(code('invalid_argument', 'directory'));
    // A single file copied to a link goes where the link leads; one within a tree takes its place.
    const one = () => archive({ name: 'one', content: 'copied' });
    await client.files.unpack(at('chain'), one(), { renameSingle: true });
    expect([await content('d/target'), (await lstat(at('chain'))).isSymbolicLink()]).toEqual([
      'copied',
      true,
    ]);
    await client.files.unpack(root, archive({ name: 'chain', content: 'mine' }));
    expect([await content('chain'), (await lstat(at('chain'))).isSymbolicLink()]).toEqual(['mine', false]);
  });

  it('keeps the names, the owner and the mode of a file', async () => {
    await writeFile(at('h1'), 'old content, longer than the new', { mode: 0o4751 });
    expect(spawnSync('ln', [at('h1'), at('h2')]).status).toBe(0);
    const { ino } = await stat(at('h1'));
    await write('h2', 'new');
    expect([await content('h1'), await content('h2')]).toEqual(['new', 'new']);
    await client.files.unpack(at('h2'), archive({ name: 'one', content: 'copied', mode: 0o640 }), {
      renameSingle: true,
    });
    expect(await content('h1')).toBe('copied');
    expect(await stat(at('h2'))).toMatchObject({ ino, nlink: 2, mode: 0o100640 });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(300_000, 'x');
      throw new Error('the source broke');
    }
    await expect(client.files.write(at('h1'), broken())).rejects.toThrow('the source broke');
    await expect.poll(() => content('h2')).toBe('copied');
    await writeFile(at('alone'), 'old', { mode: 0o751 });
    await write('alone', 'new');
    expect((await stat(at('alone'))).mode & 0o7777).toBe(0o751);
    await write('alone', 'newer', { mode: 0o600 });
    expect((await stat(at('alone'))).mode & 0o7777).toBe(0o600);
    expect((await readdir(root)).sort()).toEqual(['alone', 'h1', 'h2']);
  });

  it('makes no directory for a file that does not come', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x');
      throw new Error('the source broke');
    }
    const failing = client.files.write(at('a/b/c'), broken(), { createParents: true });
    await expect(failing).rejects.toThrow('the source broke');
    await expect.poll(() => readdir(root)).toEqual([]);
  });

  it('adds nothing of a stream that is cut off', async () => {
    await writeFile(at('log'), 'one');
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('two');
      throw new Error('the source broke');
    }
    await expect(client.files.write(at('log'), broken(), { append: true })).rejects.toThrow('broke');
    await write('log', 'three', { append: true });
    expect(await content('log')).toBe('onethree');
  });

  it('refuses a file in the place of a directory and the other way round', async () => {
    await writeFile(at('f'), 'f');
    await mkdir(at('d'));
    const unpack = (...entries: TarEntry[]) => client.files.unpack(root, archive(...entries));
    await expect(unpack({ name: 'f', type: 'directory' })).rejects.toMatchObject(code('already_exists'));
    await expect(unpack({ name: 'd' })).rejects.toMatchObject(code('already_exists'));
    expect(await content('f')).toBe('f');
    // The archive of a tree that is there already.
    await unpack({ name: 'f' }, { name: 'g', type: 'link', linkname: 'f' });
    await unpack({ name: 'g', type: 'link', linkname: 'f' });
    expect((await stat(at('g'))).nlink).toBe(2);
  });
});
