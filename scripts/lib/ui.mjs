// The dashboard: from web/ to static files in dist/ui, which the server hands out.
import { existsSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sourceHash } from './build.mjs';
import { run } from './run.mjs';

const UI = 'dist/ui';
const STAMP = join(UI, 'stamp');
const BUILD_TIMEOUT_MS = 120_000;

/** Builds the dashboard unless that in dist/ui comes from the same sources and libraries. */
export async function buildUi() {
  const stamp = await sourceHash(['web'], await readFile('package-lock.json'));
  const isThere = existsSync(join(UI, 'index.html'));
  if (isThere && (await readFile(STAMP, 'utf8').catch(() => '')) === stamp) return 'up to date';
  // A build that is cut off leaves the old one in its place.
  const fresh = `${UI}.new`;
  await rm(fresh, { recursive: true, force: true });
  const args = [
    'build',
    'web',
    '--config',
    'web/vite.config.mjs',
    '--outDir',
    `../${fresh}`,
    '--emptyOutDir',
  ];
  await run('node_modules/.bin/vite', [...args, '--logLevel', 'warn'], {
    timeoutMs: BUILD_TIMEOUT_MS,
    label: 'vite',
  });
  await writeFile(join(fresh, 'stamp'), stamp);
  await rm(UI, { recursive: true, force: true });
  await rename(fresh, UI);
  return 'built';
}
