// npm packages: installed only when node_modules is not in step with package-lock.json.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { compilerPackages, install, missing } from './debian.mjs';
import { run, SetupError, tryRun } from './run.mjs';

/** Compiling better-sqlite3 takes about a minute on two cores. */
const INSTALL_TIMEOUT_MS = 900_000;
const quiet = ['--no-audit', '--no-fund', '--no-progress'];

/** Brings node_modules in step, and better-sqlite3 into a state that loads where Node has no SQLite of its own. */
export async function ensureNpmPackages() {
  const done = [];
  if (!(await inStep())) {
    await installPackages();
    done.push('installed');
  }
  if (!(await sqliteLoads())) {
    await buildSqlite();
    done.push('better-sqlite3 built');
  }
  return done.length === 0 ? 'up to date' : done.join(', ');
}

/** Brings packages that package.json names and that are not here at all: a change may need one that the last did not. */
export async function addMissingPackages() {
  const { dependencies, devDependencies } = JSON.parse(await readFile('package.json', 'utf8'));
  const names = Object.keys({ ...dependencies, ...devDependencies });
  if (names.every((name) => existsSync(join('node_modules', name, 'package.json')))) return;
  const args = ['install', '--ignore-scripts', '--no-save', ...quiet];
  await run('npm', args, { timeoutMs: INSTALL_TIMEOUT_MS, label: 'npm' });
}

/** Whether the packages of a directory are those of its lock file. Compares versions by content, so that it does not matter who installed. Optional ones may be of other platforms. */
export async function inStep(directory = '.') {
  const read = async (path) => JSON.parse(await readFile(join(directory, path), 'utf8')).packages;
  try {
    const wanted = await read('package-lock.json');
    const present = await read('node_modules/.package-lock.json');
    return Object.entries(wanted).every(
      ([path, { version, optional, link }]) =>
        path === '' || optional || link || present[path]?.version === version,
    );
  } catch {
    return false;
  }
}

async function installPackages() {
  // Scripts are run for the one package that needs them, below.
  const args = ['ci', '--ignore-scripts', ...quiet];
  const hint = 'See that the npm registry can be reached; `npm ci --ignore-scripts` is what failed.';
  await run('npm', args, { timeoutMs: INSTALL_TIMEOUT_MS, label: 'npm', hint });
}

async function sqliteLoads() {
  const script =
    "process.getBuiltinModule('node:sqlite') ?? new (require('better-sqlite3'))(':memory:').close()";
  return (await tryRun(process.execPath, ['-e', script], { timeoutMs: 30_000 })).status === 0;
}

async function buildSqlite() {
  const absent = missing(compilerPackages);
  if (absent.length > 0) await install(absent);
  // Headers that came with this Node spare node-gyp a download.
  const prefix = dirname(dirname(process.execPath));
  const env = existsSync(join(prefix, 'include/node/node.h')) ? { npm_config_nodedir: prefix } : {};
  const options = { timeoutMs: INSTALL_TIMEOUT_MS, label: 'better-sqlite3', env };
  const { tail } = await run('npm', ['rebuild', 'better-sqlite3', '--foreground-scripts', ...quiet], options);
  if (!(await sqliteLoads())) throw new SetupError(`better-sqlite3 was built but does not load\n${tail}`);
}
