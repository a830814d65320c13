// npm run docs: the documentation as static pages in site/dist, with every link looked at. Nothing else is reached than the
// npm registry, and that only when packages are missing.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { inStep } from '../scripts/lib/npm.mjs';

const site = fileURLToPath(new URL('.', import.meta.url));
const root = join(site, '..');
const pages = join(site, '.cache/pages');
const LIMIT_MS = 300_000;

/** Runs a program in the directory of the site, and shows what it says when it fails. */
function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: site,
    encoding: 'utf8',
    timeout: LIMIT_MS,
    env: { ...process.env, NO_COLOR: '1' },
  });
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}${error ?? ''}\n`);
  throw new Error(`${command} ${args.join(' ')} failed`);
}

const bin = (name) => join(site, 'node_modules/.bin', name);

try {
  if (!(await inStep(site))) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  const program = join(root, 'dist/cli/program.js');
  if (!existsSync(program)) throw new Error('dist is missing; run npm run build first');
  const { writePage, writePages } = await import('./lib/pages.mjs');
  const { cliPage } = await import('./lib/cli-page.mjs');
  const { commandLine } = await import(pathToFileURL(program).href);
  await rm(pages, { recursive: true, force: true });
  await mkdir(pages, { recursive: true });
  await writePages(root, pages);
  await writePage(pages, 'cli', cliPage(commandLine()));
  run(bin('typedoc'), ['--options', 'typedoc.json']);
  run(bin('vitepress'), ['build', '.']);
  const { checkLinks } = await import('./lib/links.mjs');
  const { count, broken } = await checkLinks(join(site, 'dist'));
  for (const { url, parent } of broken) console.error(`broken link: ${url} on ${parent}`);
  if (broken.length > 0) throw new Error(`${broken.length} of ${count} links lead nowhere`);
  console.log(`site/dist: ${count} links, each leads somewhere`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
