import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { addBetterSqlite, installedProject, type Project, readmeExample } from './project.js';

/** `npm run test:package` names all that are supported; else the Node at hand. */
const versions = process.env.CRYOBOX_NODES?.split(',') ?? [undefined];
const testMs = 900_000;

const majorOf = async (project: Project) =>
  Number((await project.run('node', ['-p', 'process.versions.node'])).stdout.split('.')[0]);

it.each(versions)(
  'from the tarball to a box of README, Node %s',
  async (version) => {
    await using project = await installedProject(version, ['--omit=optional']);
    const example = join(project.directory, 'example.mjs');
    await writeFile(example, await readmeExample());
    const remote = await project.run('node', [
      '-e',
      "import('cryobox/remote').then((it) => console.log(typeof it.connectRuntime))",
    ]);
    expect(remote).toEqual({ exitCode: 0, stdout: 'function', stderr: '' });

    if ((await majorOf(project)) < 22) {
      const without = await project.run('npx', ['--no-install', 'cryobox', 'ls']);
      expect(without.exitCode).not.toBe(0);
      expect(without.stderr).toContain('has no SQLite of its own, and better-sqlite3 is not installed');
      expect(without.stderr).toContain('Use Node 22.13 or newer, or run `npm install better-sqlite3`');
      await addBetterSqlite(project);
    }

    const noQemu = await project.run('node', [example], { CRYOBOX_QEMU: '/no/such/qemu' });
    expect(noQemu.stderr).toContain('npx cryobox setup');

    const setup = await project.run('npx', ['--no-install', 'cryobox', 'setup']);
    expect(setup).toMatchObject({ exitCode: 0 });
    expect(setup.stdout).toContain('Host packages: up to date');
    expect(setup.stdout).toMatch(/Guest kernel: \d\S+, /);
    expect(setup.stderr).toContain('Image debian-python: up to date');

    const ran = await project.run('node', [example]);
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(ran.stdout).toMatch(/^0 42\n/);
    expect(ran.stdout).toContain('0\n1\n2\n');
    expect(ran.stdout).toContain('command_not_found');

    const absent = await project.run('npx', ['--no-install', 'cryobox', 'create', 'debian-node']);
    expect(absent.exitCode).not.toBe(0);
    expect(absent.stderr).toContain('npx cryobox images build debian-node --packages');
  },
  testMs,
);

it(
  'the first use fetches what needs no root, and a bundled program says where the package is',
  async () => {
    await using project = await installedProject(process.env.CRYOBOX_NODES ? '24' : undefined, [
      '--omit=optional',
    ]);
    if ((await majorOf(project)) < 22) await addBetterSqlite(project);
    const listed = await project.run('npx', ['--no-install', 'cryobox', 'ls']);
    expect(listed).toMatchObject({ exitCode: 0 });
    expect(listed.stderr).toContain('fetching the guest kernel');
    await project.run('npx', ['--no-install', 'cryobox', 'engine', 'stop']);

    const source = join(project.directory, 'list.mjs');
    await writeFile(
      source,
      `import { Cryobox } from 'cryobox';
     const runtime = await Cryobox.local({ engine: process.argv[2], packageDirectory: process.argv[3] });
     console.log((await runtime.list()).length);
     await runtime.close();`,
    );
    const bundle = join(project.directory, '../bundle.mjs');
    const banner =
      "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
    const built = await project.run(resolve('node_modules/.bin/esbuild'), [
      source,
      '--bundle',
      '--platform=node',
      '--format=esm',
      '--external:better-sqlite3',
      `--banner:js=${banner}`,
      `--outfile=${bundle}`,
    ]);
    expect(built).toMatchObject({ exitCode: 0 });
    const NODE_PATH = join(project.directory, 'node_modules');
    const lost = await project.run('node', [bundle]);
    expect(lost.stderr).toContain('CRYOBOX_PACKAGE');
    const installed = join(project.directory, 'node_modules/cryobox');
    const byVariable = await project.run('node', [bundle], { CRYOBOX_PACKAGE: installed, NODE_PATH });
    expect(byVariable).toEqual({ exitCode: 0, stdout: '0', stderr: '' });
    await project.run('npx', ['--no-install', 'cryobox', 'engine', 'stop']);
    const byOption = await project.run('node', [bundle, 'background', installed]);
    expect(byOption).toEqual({ exitCode: 0, stdout: '0', stderr: '' });
  },
  testMs,
);
