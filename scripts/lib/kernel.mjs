// The guest kernel: contents of Debian's package in the cache, never installed on the host.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { downloadKernel } from './debian.mjs';
import { run, SetupError } from './run.mjs';

/** Where guest assets that are not built from this repository are kept. */
function cacheDirectory() {
  const { CRYOBOX_CACHE, XDG_CACHE_HOME } = process.env;
  return CRYOBOX_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'cryobox');
}

/** Fetches the kernel unless one is in the cache. */
export async function ensureKernel() {
  const root = join(cacheDirectory(), 'kernel');
  await mkdir(root, { recursive: true });
  const current = await currentVersion(root);
  if (current) return `${current}, up to date`;
  const work = await mkdtemp(join(root, '.fetch-'));
  try {
    const deb = await downloadKernel(work);
    const tree = join(work, 'tree');
    await run('dpkg-deb', ['-x', deb, tree], { timeoutMs: 120_000 });
    const version = await publish(tree, work, root);
    await writeFile(join(work, 'current'), `${version}\n`);
    await rename(join(work, 'current'), join(root, 'current'));
    return `${version}, fetched`;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function currentVersion(root) {
  const version = (await readFile(join(root, 'current'), 'utf8').catch(() => '')).trim();
  const whole = version !== '' && existsSync(join(root, version, 'boot', `vmlinuz-${version}`));
  return whole ? version : undefined;
}

/** Moves kernel image and modules to `<root>/<version>`, in one rename. */
async function publish(tree, work, root) {
  const images = await readdir(join(tree, 'boot')).catch(() => []);
  const image = images.find((name) => name.startsWith('vmlinuz-'));
  if (!image) throw new SetupError('The kernel package holds no boot/vmlinuz-*');
  const version = image.slice('vmlinuz-'.length);
  // Debian 13 and later keep modules below usr/.
  const modules = [join(tree, 'lib/modules'), join(tree, 'usr/lib/modules')].find((path) => existsSync(path));
  if (!modules) throw new SetupError('The kernel package holds no lib/modules');
  const staged = join(work, 'staged');
  await mkdir(join(staged, 'boot'), { recursive: true });
  await mkdir(join(staged, 'lib'));
  await rename(join(tree, 'boot', image), join(staged, 'boot', image));
  await rename(modules, join(staged, 'lib/modules'));
  await rm(join(root, version), { recursive: true, force: true });
  await rename(staged, join(root, version));
  return version;
}
