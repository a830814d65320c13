import { chmod, chown, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it, onTestFinished } from 'vitest';
import { newId } from '../../src/base/ids.js';
import { Engine } from '../../src/engine/index.js';
import { cacheDirectory } from '../../src/engine/machines/assets.js';
import { runCli, spawnCli } from '../support/cli.js';
import { newHome } from '../support/home.js';
import { temporaryDirectory } from '../support/temporary.js';
import { failureOf } from './support.js';

const asRoot = process.getuid?.() === 0;
const folders = ['scratch', 'machines', 'layers', 'boxes', 'images', 'images/blobs/sha256', 'images/partial'];

/** Somebody's directory with folders that are named like those of a home, and files in them. */
async function userDirectory(): Promise<string> {
  const root = await temporaryDirectory();
  await chmod(root, 0o755);
  await addUserFiles(root);
  return root;
}

async function addUserFiles(root: string): Promise<void> {
  for (const folder of folders) {
    await mkdir(join(root, folder, 'mine'), { recursive: true });
    await writeFile(join(root, folder, 'mine', 'deep.txt'), 'mine');
    await writeFile(join(root, folder, 'mine.txt'), 'mine');
  }
}

/** Everything below a directory: paths, modes, times and contents. */
async function pictureOf(root: string): Promise<string> {
  const { stdout } = await execa('sh', [
    '-c',
    'cd "$1" && find . -printf "%p %m %T@ %s\\n" | sort && find . -type f | sort | xargs md5sum',
    'sh',
    root,
  ]);
  return stdout;
}

async function hasUserFiles(root: string): Promise<void> {
  for (const folder of folders) {
    expect(await readFile(join(root, folder, 'mine', 'deep.txt'), 'utf8')).toBe('mine');
    expect(await readFile(join(root, folder, 'mine.txt'), 'utf8')).toBe('mine');
  }
}

describe('a directory that is no home', () => {
  it('is not taken by an empty CRYOBOX_HOME in it', async () => {
    const [cwd, userHome] = [await userDirectory(), await temporaryDirectory()];
    const before = await pictureOf(cwd);
    const env = { HOME: userHome, CRYOBOX_HOME: '', CRYOBOX_CACHE: cacheDirectory() };
    const cli = join(process.cwd(), 'dist/cli/main.js');
    const run = (...args: string[]) =>
      execa(process.execPath, [cli, ...args], { cwd, env, reject: false, timeout: 60_000 });
    onTestFinished(async () => {
      await run('engine', 'stop');
    });
    expect(await run('ls')).toMatchObject({ exitCode: 0 });
    expect(await run('gc')).toMatchObject({ exitCode: 0 });
    expect(await run('engine', 'stop')).toMatchObject({ exitCode: 0 });
    expect(await pictureOf(cwd)).toBe(before);
    expect((await stat(join(userHome, '.cryobox', 'cryobox.json'))).isFile()).toBe(true);
  });

  it('is not taken by an empty CRYOBOX_HOME and an empty HOME', async () => {
    const cwd = await userDirectory();
    const before = await pictureOf(cwd);
    const env = { HOME: '', CRYOBOX_HOME: '', CRYOBOX_CACHE: '', XDG_CACHE_HOME: '' };
    const cli = join(process.cwd(), 'dist/cli/main.js');
    const { stdout } = await execa(process.execPath, [cli, 'info', '--format', 'json'], { cwd, env });
    const { home, cache } = JSON.parse(stdout) as { home: string; cache: string };
    for (const path of [home, cache]) expect(relative(cwd, path)).toMatch(/^\.\.\//);
    expect(await pictureOf(cwd)).toBe(before);
  });

  it.each([
    ['--home .', '.'],
    ['a path to it', undefined],
  ])('is refused untouched as %s', async (_what, given) => {
    const root = await userDirectory();
    const before = await pictureOf(root);
    for (const args of [
      ['ls'],
      ['gc'],
      ['engine', 'start'],
      ['engine', 'stop'],
      ['keys', 'ls'],
      ['serve', '--port', '0'],
    ]) {
      const cli = join(process.cwd(), 'dist/cli/main.js');
      const ran = await execa(process.execPath, [cli, ...args, '--home', given ?? root], {
        cwd: root,
        reject: false,
        timeout: 30_000,
      });
      expect([args, ran.exitCode]).toEqual([args, 125]);
      expect(ran.stderr).toContain('it holds "boxes", "images", "layers", "machines" and 1 more');
      expect(ran.stderr).toContain('empty directory');
    }
    expect(await failureOf(Engine.open({ home: root }))).toMatchObject({ code: 'config_error' });
    expect(await pictureOf(root)).toBe(before);
  });

  it.each([
    ['a database of somebody else', 'cryobox.db', 'CREATE TABLE boxes'],
    ['a file of the name of the marker', 'cryobox.json', '{"name": "my cryobox settings"}'],
    ['a marker that is no JSON', 'cryobox.json', 'cryobox-home'],
  ])('is refused with %s', async (_what, name, content) => {
    const root = await userDirectory();
    await writeFile(join(root, name), content);
    const before = await pictureOf(root);
    expect(await failureOf(Engine.open({ home: root }))).toMatchObject({
      code: 'config_error',
      message: expect.stringContaining('not empty'),
    });
    expect(await pictureOf(root)).toBe(before);
  });

  it('is refused when a newer release made it a home', async () => {
    const root = await temporaryDirectory();
    await writeFile(join(root, 'cryobox.json'), '{"kind": "cryobox-home", "format": 2}');
    const failure = await failureOf(Engine.open({ home: root }));
    expect(failure).toMatchObject({ code: 'config_error', message: expect.stringContaining('format 2') });
  });
});

describe('a home', () => {
  it('is made in an empty directory, with settings in it or not, and marked', async () => {
    const root = await temporaryDirectory();
    await writeFile(join(root, 'registries.json'), '{}');
    await (await Engine.open({ home: root, poolSize: 0 })).close();
    expect(JSON.parse(await readFile(join(root, 'cryobox.json'), 'utf8'))).toMatchObject({
      kind: 'cryobox-home',
    });
    await (await Engine.open({ home: root, poolSize: 0 })).close();
  });

  it('of an earlier release is known by its database, and marked', async () => {
    await using home = await newHome();
    await (await Engine.open({ home: home.path, poolSize: 0 })).close();
    expect((await stat(join(home.path, 'cryobox.json'))).isFile()).toBe(true);
  });

  it('keeps files that are not its own, and loses what a crash left', async () => {
    await using home = await newHome();
    await addUserFiles(home.path);
    const left = ['scratch', 'machines', 'layers', 'boxes'].map((folder, at) =>
      join(home.path, folder, newId((['opn', 'mch', 'lay', 'box'] as const)[at] ?? 'opn')),
    );
    for (const path of left) {
      if (path.includes('/layers/')) await writeFile(path, 'left');
      else await mkdir(path);
    }
    const engine = await Engine.open({ home: home.path, poolSize: 0 });
    try {
      const { removed } = await engine.runtime().gc();
      expect(removed.filter(({ path }) => path.includes('mine'))).toEqual([]);
    } finally {
      await engine.close();
    }
    await hasUserFiles(home.path);
    for (const path of left) await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  it('deletes nothing behind a symbolic link', async () => {
    await using home = await newHome();
    await using other = await newHome();
    const precious = join(other.path, 'precious');
    const names = { scratch: newId('opn'), machines: newId('mch'), boxes: newId('box') };
    for (const [folder, name] of Object.entries(names)) {
      // A folder that is a link, with names of our form in it; and a link of such a name in a folder of ours.
      await mkdir(join(precious, folder, name), { recursive: true });
      await writeFile(join(precious, folder, name, 'file'), 'precious');
      await symlink(join(precious, folder), join(home.path, folder));
      await mkdir(join(other.path, folder));
      await symlink(join(precious, folder, name), join(other.path, folder, name));
    }
    for (const { path } of [home, other]) {
      const engine = await Engine.open({ home: path, poolSize: 0 });
      await engine.runtime().gc();
      await engine.close();
    }
    for (const [folder, name] of Object.entries(names)) {
      expect(await readFile(join(precious, folder, name, 'file'), 'utf8')).toBe('precious');
    }
  });
});

describe('a place where no home can be', () => {
  it.each(['/proc/x', '/proc/self/deep/er', '/sys/x', '/sys/fs/cgroup/x/y', '/'])(
    '%s is refused at once',
    async (home) => {
      const { exitCode, stderr } = await runCli(home, 'ls');
      expect(exitCode).toBe(125);
      expect(stderr).toMatch(
        /^error: (no home can be (on (proc|sysfs|cgroup2?) |in \/sys )|\/ cannot be a home)/,
      );
      expect(stderr).toContain('hint: Set CRYOBOX_HOME');
      expect(await failureOf(Engine.open({ home }))).toMatchObject({ code: 'config_error' });
    },
  );

  it('an empty path is refused by name', async () => {
    expect(await failureOf(Engine.open({ home: '' }))).toMatchObject({ code: 'invalid_argument' });
    const { exitCode, stderr } = await runCli('/unused', 'ls', '--home', '');
    expect([exitCode, stderr]).toEqual([125, expect.stringContaining('home must be a path')]);
  });

  it('a file, and a path below one, are refused', async () => {
    const root = await temporaryDirectory();
    const file = join(root, 'file');
    await writeFile(file, '');
    for (const home of [file, join(file, 'below')]) {
      const failure = await failureOf(Engine.open({ home }));
      expect(failure).toMatchObject({
        code: 'config_error',
        message: expect.stringContaining('not a directory'),
      });
      expect((await runCli(home, 'ls')).stderr).toContain('not a directory');
    }
  });

  it('a directory that everybody may write is refused, as it is', async () => {
    const root = await temporaryDirectory();
    await chmod(root, 0o1777);
    expect(await failureOf(Engine.open({ home: root }))).toMatchObject({ code: 'config_error' });
    expect((await stat(root)).mode & 0o7777).toBe(0o1777);
  });

  it.runIf(asRoot)(
    'a directory of another user is refused to that user, and is no fault of ours',
    async () => {
      const root = await temporaryDirectory();
      const closed = join(root, 'closed');
      await mkdir(join(closed, 'home'), { recursive: true });
      await chmod(closed, 0o700);
      await chmod(root, 0o755);
      const nobody = { uid: 65_534, gid: 65_534 };
      for (const home of [join(closed, 'home'), join(closed, 'new'), closed]) {
        for (const args of [['ls'], ['engine', 'status'], ['engine', 'stop']]) {
          const { exitCode, stderr } = await spawnCli(home, args, { ...nobody, env: { HOME: root } });
          expect([home, exitCode]).toEqual([home, 125]);
          expect(stderr).not.toContain('bug in Cryobox');
          expect(stderr).toMatch(/this user may not use |belongs to user 0/);
        }
      }
      await chown(closed, nobody.uid, nobody.gid);
    },
  );

  it.runIf(asRoot)('a read-only file system, and one without room, say so', async () => {
    const root = await temporaryDirectory();
    for (const [options, message] of [
      ['ro', 'mounted read-only'],
      ['mode=700,size=4k,nr_inodes=2', 'no room is left'],
    ] as const) {
      await execa('mount', ['-t', 'tmpfs', '-o', options, 'cryobox-test', root]);
      try {
        for (const home of [root, join(root, 'new')]) {
          const failure = await failureOf(Engine.open({ home }));
          expect(failure).toMatchObject({ message: expect.stringContaining(message) });
          const { exitCode, stderr } = await runCli(home, 'ls');
          expect([exitCode, stderr]).toEqual([125, expect.stringContaining(message)]);
        }
      } finally {
        await execa('umount', [root]);
      }
    }
  });

  it.runIf(asRoot)('a home in memory works, with a warning', async () => {
    const root = await temporaryDirectory();
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=256m', 'cryobox-test', root]);
    try {
      const warnings: string[] = [];
      const said = (message: string): void => {
        warnings.push(message);
      };
      const logger = { debug: said, info: said, warn: said, error: said };
      await (await Engine.open({ home: join(root, 'home'), poolSize: 0, logger })).close();
      expect(warnings).toEqual([expect.stringContaining('lies in memory')]);
      expect((await runCli(join(root, 'home'), 'doctor')).stdout).toMatch(/warning +home .*tmpfs/);
    } finally {
      await execa('umount', [root]);
    }
  });
});
