import { spawnSync } from 'node:child_process';
import { mkdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from './host-agent.js';

interface TarFile {
  name: string;
  type?: 'file' | 'symlink' | 'link' | 'directory';
  linkname?: string;
  content?: string;
  mode?: number;
}

/** An archive as the host's tools make it. */
function archive(files: readonly TarFile[]): Readable {
  const out = pack();
  for (const { content = '', ...header } of files) out.entry({ mtime: new Date(1e12), ...header }, content);
  out.finalize();
  return Readable.from(out);
}

describe('files', () => {
  let agent: HostAgent;
  let client: AgentClient;
  let root: string;
  const at = (name: string) => join(root, name);
  const content = (name: string) => readFile(at(name), 'utf8');

  beforeEach(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
    root = join(agent.directory, 'root');
    await mkdir(root);
  });
  afterEach(() => agent.stop());

  it('are written, described, read and removed', async () => {
    const bytes = Buffer.alloc(3_000_000, 'content ');
    const path = at('a/b/file');
    await expect(client.files.write(path, [bytes])).rejects.toMatchObject({ code: 'not_found' });
    expect(await client.files.write(path, [bytes], { createParents: true, mode: 0o640 })).toBe(bytes.length);
    expect(await client.files.stat(path)).toMatchObject({
      name: 'file',
      type: 'file',
      size: bytes.length,
      mode: 0o640,
      linkTarget: null,
    });
    expect((await buffer(client.files.read(path))).equals(bytes)).toBe(true);
    expect(String(await buffer(client.files.read(path, { offsetBytes: 8, lengthBytes: 7 })))).toBe('content');
    await client.files.write(path, [Buffer.from('!')], { append: true });
    expect((await client.files.stat(path)).size).toBe(bytes.length + 1);
    await client.files.write(path, [Buffer.from('new')]);
    expect((await stat(path)).mode & 0o777).toBe(0o640);
    expect(await content('a/b/file')).toBe('new');
    await expect(client.files.remove(at('a'))).rejects.toMatchObject({ code: 'invalid_state' });
    await client.files.remove(at('a'), { recursive: true });
    await client.files.remove(at('a'), { force: true });
    await expect(client.files.remove(at('a'))).rejects.toMatchObject({ code: 'not_found' });
  });

  it('keep their old content when a writer fails', async () => {
    await writeFile(at('kept'), 'old');
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(100_000);
      throw new Error('the source broke');
    }
    await expect(client.files.write(at('kept'), failing())).rejects.toThrow('the source broke');
    expect(await content('kept')).toBe('old');
    const names: string[] = [];
    for await (const entry of client.files.list(root)) names.push(entry.name);
    expect(names).toEqual(['kept']);
  });

  it('are listed, whatever their names', async () => {
    const odd = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0x66, 0xff, 0xfe])]);
    await writeFile(odd, '');
    for (let index = 0; index < 1200; index += 1) await writeFile(at(`file-${index} "ü"\n`), '');
    await symlink('file-1', at('link'));
    const entries = new Map<string, string>();
    for await (const entry of client.files.list(root)) entries.set(entry.name, entry.type);
    expect(entries.size).toBe(1202);
    expect(entries.get('file-7 "ü"\n')).toBe('file');
    expect(entries.get('f\udcff\udcfe')).toBe('file');
    expect(entries.get('link')).toBe('symlink');
    await client.files.remove(at('f\udcff\udcfe'));
    await expect(stat(odd)).rejects.toThrow('ENOENT');
  });

  it('are renamed, linked and changed', async () => {
    await client.files.makeDirectory(at('d/e'), { recursive: true, mode: 0o711 });
    await writeFile(at('x'), 'x');
    await writeFile(at('y'), 'y');
    await expect(client.files.rename(at('x'), at('y'))).rejects.toMatchObject({ code: 'already_exists' });
    await client.files.rename(at('x'), at('y'), { overwrite: true });
    expect(await content('y')).toBe('x');
    await client.files.makeSymlink(at('l'), 'y');
    expect(await client.files.readSymlink(at('l'))).toBe('y');
    expect(await client.files.stat(at('l'))).toMatchObject({ type: 'symlink', linkTarget: 'y' });
    expect(await client.files.stat(at('l'), { follow: true })).toMatchObject({ type: 'file' });
    await client.files.changeMode(at('y'), 0o4711);
    expect((await client.files.stat(at('y'))).mode).toBe(0o4711);
    await client.files.changeOwner(at('y'), { uid: process.getuid?.(), gid: process.getgid?.() });
    await expect(client.files.makeDirectory(at('d'))).rejects.toMatchObject({
      code: 'already_exists',
      message: expect.stringContaining(at('d')),
    });
    await expect(client.files.stat('relative')).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(buffer(client.files.read(at('d')))).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(buffer(client.files.read(at('none')))).rejects.toMatchObject({ code: 'not_found' });
  });

  it('travel as a tree and come back the same', async () => {
    const made = spawnSync('sh', [
      '-ec',
      `cd "$1"; mkdir -p src/deep/er src/empty; echo hi > src/a; chmod 4750 src/a; ln src/a src/hard
       ln -s ../nowhere src/link; head -c 300000 /dev/urandom > src/deep/er/blob; mkfifo src/pipe
       touch -d @1000000000 src/deep/er/blob src/empty; echo long > src/${'n'.repeat(180)}`,
      'sh',
      root,
    ]);
    expect(String(made.stderr)).toBe('');
    const { stream, result } = client.files.pack(at('src'));
    const unpacked = await client.files.unpack(at('copy'), stream, { keepOwner: true });
    expect(await result).toEqual(unpacked);
    const listing = (name: string) =>
      spawnSync('sh', [
        '-c',
        'cd "$1" && find . -printf "%P %y %m %U %G %n %l %s %T@\\n" | grep -v "^ d" | sort',
        'sh',
        at(name),
      ]);
    const clean = (out: Buffer) => String(out).replaceAll(/^(\S* d .*) \d+ \S+$/gm, '$1');
    expect(clean(listing('copy').stdout)).toBe(clean(listing('src').stdout));
    expect(
      spawnSync('sh', [
        '-c',
        'exec diff "$@"',
        'sh',
        '-r',
        '--exclude=pipe',
        '--no-dereference',
        at('src'),
        at('copy'),
      ]).status,
    ).toBe(0);
    const sameInode = (await stat(at('copy/a'))).ino === (await stat(at('copy/hard'))).ino;
    expect(sameInode).toBe(true);
  });

  it('are packed in a form that tar reads, with their parent or without', async () => {
    await mkdir(at('t/sub'), { recursive: true });
    await writeFile(at('t/sub/f'), 'f');
    await symlink('sub', at('t/s'));
    const names = async (options: object, path = at('t')) => {
      const bytes = await buffer(client.files.pack(path, options).stream);
      return String(spawnSync('tar', ['-t'], { input: bytes }).stdout)
        .split('\n')
        .filter(Boolean)
        .sort();
    };
    expect(await names({})).toEqual(['./', './s', './sub/', './sub/f']);
    expect(await names({ includeParent: true })).toEqual(['t/', 't/s', 't/sub/', 't/sub/f']);
    expect(await names({ followSymlinks: true })).toEqual(['./', './s/', './s/f', './sub/', './sub/f']);
    expect(await names({}, at('t/sub/f'))).toEqual(['f']);
    await symlink('..', at('t/loop'));
    await expect(names({ followSymlinks: true })).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(names({}, at('none'))).rejects.toMatchObject({ code: 'not_found' });
  });

  it('become the target when a single one is asked to', async () => {
    const single = () => archive([{ name: 'one.txt', content: 'one' }]);
    const rename = { renameSingle: true };
    expect(await client.files.unpack(at('new/target'), single(), rename)).toEqual({ entries: 1, bytes: 3 });
    expect(await content('new/target')).toBe('one');
    await client.files.unpack(at('slash/'), single(), rename);
    expect(await content('slash/one.txt')).toBe('one');
    await client.files.unpack(at('slash'), archive([{ name: 'two.txt', content: 'two' }]), rename);
    expect(await content('slash/two.txt')).toBe('two');
    const pair = archive([
      { name: 'p/one', content: '1' },
      { name: 'two', content: '2' },
    ]);
    await client.files.unpack(at('pair'), pair, rename);
    expect([await content('pair/p/one'), await content('pair/two')]).toEqual(['1', '2']);
    await expect(
      client.files.unpack(at('new/target'), single(), { ...rename, overwrite: false }),
    ).rejects.toMatchObject({ code: 'already_exists' });
  });

  it('replace what is there, or not, as asked', async () => {
    await writeFile(at('f'), 'old');
    const files = [{ name: 'f', content: 'new' }];
    await expect(client.files.unpack(root, archive(files), { overwrite: false })).rejects.toMatchObject({
      code: 'already_exists',
    });
    expect(await content('f')).toBe('old');
    await client.files.unpack(root, archive(files));
    expect(await content('f')).toBe('new');
    await mkdir(at('dir'));
    await expect(client.files.unpack(root, archive([{ name: 'dir', content: 'x' }]))).rejects.toMatchObject({
      code: 'already_exists',
    });
  });

  it('cannot leave the target', async () => {
    await mkdir(at('outside'));
    await writeFile(at('outside/victim'), 'safe');
    const target = at('target');
    const escapes: TarFile[][] = [
      [{ name: '../outside/victim', content: 'x' }],
      [{ name: 'a/../../outside/victim', content: 'x' }],
      [
        { name: 'l', type: 'symlink', linkname: '../outside' },
        { name: 'l/victim', content: 'x' },
      ],
      [
        { name: 'l', type: 'symlink', linkname: at('outside') },
        { name: 'l/victim', content: 'x' },
      ],
      [{ name: 'h', type: 'link', linkname: '../outside/victim' }],
      [
        { name: 'm', type: 'symlink', linkname: '../outside' },
        { name: 'h', type: 'link', linkname: 'm/victim' },
      ],
    ];
    for (const files of escapes) {
      await expect(client.files.unpack(target, archive(files)), JSON.stringify(files)).rejects.toMatchObject({
        code: 'invalid_argument',
      });
    }
    expect(await content('outside/victim')).toBe('safe');
    expect((await stat(at('outside/victim'))).nlink).toBe(1);
    // An absolute name is taken below the target; links may point anywhere, and links within are followed.
    await client.files.unpack(
      target,
      archive([
        { name: '/etc/inside', content: 'in' },
        { name: 'usr/bin', type: 'directory' },
        { name: 'bin', type: 'symlink', linkname: 'usr/bin' },
        { name: 'bin/', type: 'directory' },
        { name: 'bin/tool', content: 'tool' },
        { name: 'out', type: 'symlink', linkname: '/etc/passwd' },
      ]),
    );
    expect(await content('target/etc/inside')).toBe('in');
    expect(await content('target/usr/bin/tool')).toBe('tool');
    expect(await readlink(join(target, 'bin'))).toBe('usr/bin');
    expect(await readlink(join(target, 'out'))).toBe('/etc/passwd');
    // A link in the place of a file is replaced, not written through.
    await client.files.unpack(target, archive([{ name: 'out', content: 'mine' }]));
    expect(await content('target/out')).toBe('mine');
  });

  it('are not taken from a damaged archive', async () => {
    const whole = await buffer(archive([{ name: 'a', content: 'x'.repeat(5000) }]));
    await expect(client.files.unpack(at('cut'), [whole.subarray(0, 3000)])).rejects.toThrow(/archive/);
    const flipped = Buffer.from(whole);
    flipped[20] = 1;
    await expect(client.files.unpack(at('flipped'), [flipped])).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('checksum'),
    });
    expect(await client.files.unpack(at('nothing'), [])).toEqual({ entries: 0, bytes: 0 });
  });

  it('are handled in the order of the requests', async () => {
    const results = await Promise.all([
      client.files.makeDirectory(at('o')),
      client.files.write(at('o/f'), [Buffer.from('1')]),
      client.files.stat(at('o')),
      client.system.ping('now'),
    ]);
    expect(results[2]).toMatchObject({ type: 'directory' });
    const many = Array.from({ length: 60 }, (_, index) =>
      client.files.write(at(`m${index}`), [Buffer.alloc(9000)]),
    );
    expect(await Promise.all(many)).toEqual(Array.from({ length: 60 }, () => 9000));
  });

  it('stop when cancelled', async () => {
    const controller = new AbortController();
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(10);
      controller.abort();
      await new Promise((resolve) => setTimeout(resolve, 30));
      yield Buffer.alloc(10);
    }
    await expect(client.files.write(at('c'), slow(), { signal: controller.signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
    await expect.poll(async () => (await stat(at('c')).catch(() => undefined)) === undefined).toBe(true);
    expect(await client.system.ping('alive')).toBe('alive');
  });
});
