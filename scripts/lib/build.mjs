// What is built from this checkout: TypeScript into dist/, the guest agent, the network guard and the gateway into dist/guest/.
import { createHash } from 'node:crypto';
import { existsSync, lstatSync } from 'node:fs';
import {
  chmod,
  copyFile,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { guestFolder } from './architectures.mjs';
import { run, SetupError } from './run.mjs';
import { ensureCompiler } from './rust.mjs';

const MAIN = 'dist/cli/main.js';
const GUEST = guestFolder(process.arch);
const STAMP = join(GUEST, 'stamp');

/** Files of dist/guest, and the crate and target each comes from. */
const artifacts = [
  { file: 'cryobox-agent', crate: 'agent', target: 'cryobox-agent' },
  { file: 'netguard.so', crate: 'agent/netguard', target: 'netguard' },
  { file: 'cryobox-gateway', crate: 'gateway', target: 'cryobox-gateway' },
];

/** Compiles TypeScript and makes `npx cryobox` find this checkout's command. */
export async function buildTypeScript() {
  // tsc trusts its notes about what it has written; without dist/ they are wrong.
  if (!existsSync('dist/index.js')) await rm('.cache/tsconfig.tsbuildinfo', { force: true });
  await run('node_modules/.bin/tsc', ['-b'], { timeoutMs: 300_000, label: 'tsc' });
  if (!existsSync(MAIN)) return 'built';
  await chmod(MAIN, 0o755);
  await linkCommand();
  return 'built';
}

async function linkCommand() {
  // A linked node_modules belongs to another checkout, whose command it is.
  if (lstatSync('node_modules').isSymbolicLink()) return;
  const link = 'node_modules/.bin/cryobox';
  const target = `../../${MAIN}`;
  if ((await readlink(link).catch(() => '')) === target) return;
  await rm(link, { force: true });
  await symlink(target, link);
}

/** Builds the guest's binaries unless those in dist/guest come from the same sources and compiler. */
export async function buildGuest() {
  const { directory, env, version } = await ensureCompiler();
  const stamp = await sourceHash(['agent', 'gateway'], `${version}\n`);
  const complete = artifacts.every(({ file }) => existsSync(join(GUEST, file)));
  if (complete && (await readFile(STAMP, 'utf8').catch(() => '')) === stamp) return 'up to date';
  await mkdir(GUEST, { recursive: true });
  for (const { file, crate, target } of artifacts) {
    const args = ['build', '--release', '--offline', '--message-format=json-render-diagnostics'];
    const options = { cwd: crate, env, timeoutMs: 600_000, capture: true, label: `cargo ${target}` };
    const { stdout } = await run(join(directory, 'cargo'), args, options);
    await publish(findArtifact(stdout, target), join(GUEST, file));
  }
  await writeFile(STAMP, stamp);
  return `built with ${version}, ${directory}`;
}

/** The file cargo says it made for a target (its JSON messages, The Cargo Book, "External tools"). */
function findArtifact(messages, target) {
  for (const line of messages.split('\n')) {
    if (!line.startsWith('{')) continue;
    const message = JSON.parse(line);
    if (message.reason !== 'compiler-artifact' || message.target.name !== target) continue;
    const made = message.executable ?? message.filenames.find((name) => name.endsWith('.so'));
    if (made) return made;
  }
  throw new SetupError(`cargo built no ${target}`);
}

/** A binary that runs cannot be overwritten, but it can be replaced. */
export async function publish(from, to) {
  const temporary = `${to}.new`;
  await copyFile(from, temporary);
  await chmod(temporary, 0o755);
  await rename(temporary, to);
}

/** A sum over all files below directories, and over what makes something of them. */
export async function sourceHash(roots, compiler) {
  const hash = createHash('sha256').update(compiler);
  const list = (root) => readdir(root, { recursive: true, withFileTypes: true });
  const files = (await Promise.all(roots.map(list)))
    .flat()
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((path) => !path.includes('/target/'))
    .sort();
  for (const path of files) hash.update(`${path}\0`).update(await readFile(path));
  return hash.digest('hex');
}
