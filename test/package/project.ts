import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { execa } from 'execa';
import { builtEntry } from '../support/built.js';
import { newHome } from '../support/home.js';
import { nodeOf } from '../support/nodes.js';

/** Installing from npm and the first box of a home take most of it. */
const limitMs = 240_000;

/** An empty project of a user with a home of its own, and this package installed from its tarball. */
export interface Project extends AsyncDisposable {
  readonly directory: string;
  /** Runs a program of the project, with its Node; never rejects for an exit code. */
  run(command: string, args: readonly string[], env?: Record<string, string>): Promise<Ended>;
}

/** How a program ended, and what it said. */
export interface Ended {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Packs this checkout and installs the tarball with the Node of a version; undefined: the one at hand. */
export async function installedProject(
  version: string | undefined,
  npmArgs: readonly string[] = [],
): Promise<Project> {
  await builtEntry('cli/main.ts');
  const node = version === undefined ? process.execPath : await nodeOf(version);
  const root = await mkdtemp(join(tmpdir(), 'cryobox-package-'));
  const home = await newHome();
  const directory = join(root, 'project');
  await mkdir(directory);
  // A kernel cache of its own: what set-up fetched for this checkout must not help.
  const own = { HOME: root, CRYOBOX_HOME: home.path, CRYOBOX_CACHE: join(root, 'cache') };
  const cache = { npm_config_cache: process.env.npm_config_cache ?? `${process.env.HOME}/.npm` };
  const PATH = [dirname(node), process.env.PATH].join(delimiter);
  const run: Project['run'] = async (command, args, env = {}) => {
    const options = {
      cwd: directory,
      env: { ...own, ...cache, PATH, ...env },
      reject: false,
      timeout: limitMs,
    };
    const { exitCode, stdout, stderr } = await execa(command, args, { ...options, stdin: 'ignore' });
    return { exitCode, stdout, stderr };
  };
  const pack = ['pack', '--ignore-scripts', '--pack-destination', root];
  await execa('npm', pack, { timeout: limitMs });
  await writeFile(join(directory, 'package.json'), '{ "private": true }\n');
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline'];
  const tarball = join(root, `cryobox-${await packedVersion()}.tgz`);
  const installed = await run('npm', ['install', ...quiet, ...npmArgs, tarball]);
  if (installed.exitCode !== 0) throw new Error(`npm install failed: ${installed.stderr}`);
  return {
    directory,
    run,
    async [Symbol.asyncDispose]() {
      await run('npx', ['--no-install', 'cryobox', 'engine', 'stop']);
      await home[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function packedVersion(): Promise<string> {
  return (JSON.parse(await readFile('package.json', 'utf8')) as { version: string }).version;
}

/** What `npm install better-sqlite3` brings, as this checkout has it: it need not be compiled again. */
export async function addBetterSqlite(project: Project): Promise<void> {
  await symlink(
    resolve('node_modules/better-sqlite3'),
    join(project.directory, 'node_modules/better-sqlite3'),
  );
}

/** The program that README shows. */
export async function readmeExample(): Promise<string> {
  const example = /^## Embed it\n.*?^```js\n(.*?)^```/ms.exec(await readFile('README.md', 'utf8'))?.[1];
  if (example === undefined) throw new Error('README.md has no example below "Embed it"');
  return example;
}
