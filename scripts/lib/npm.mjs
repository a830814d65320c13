// npm packages: installed only when node_modules is not in step with package-lock.json.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { compilerPackages, install, missing } from './debian.mjs';
import { run, SetupError, tryRun } from './run.mjs';

/** Compiling better-sqlite3 takes about a minute on two cores. */
const INSTALL_TIMEOUT_MS = 900_000;
const quiet = ['--no-audit', '--no-fund', '--no-progress'];

/** Brings node_modules in step, and better-sqlite3 into a state that loads in this Node. */
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

/** Compares versions by content, so that it does not matter who installed. Optional ones may be of other platforms. */
async function inStep() {
  const read = async (path) => JSON.parse(await readFile(path, 'utf8')).packages;
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
  const options = { timeoutMs: INSTALL_TIMEOUT_MS, label: 'npm' };
  const clean = await tryRun('npm', ['ci', '--ignore-scripts', ...quiet], options);
  if (clean.status === 0) return;
  const reason = /npm error (Missing|code|network).*/.exec(clean.tail)?.[0] ?? `ended with ${clean.status}`;
  process.stdout.write(`     npm ci: ${reason}; trying npm install\n`);
  // A registry mirror may lack packages of other platforms, which `npm ci` insists on and `npm install` does not.
  await run('npm', ['install', '--no-save', '--ignore-scripts', ...quiet], options);
}

async function sqliteLoads() {
  const script = "new (require('better-sqlite3'))(':memory:').close()";
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
