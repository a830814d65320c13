// The guest kernel: contents of Debian's package in the cache, never installed on the host.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { architectureRow } from './architectures.mjs';
import { aptFor, dependencies, unpackPackages } from './debian-files.mjs';
import { SetupError } from './run.mjs';

/** Where guest assets that are not built from this repository are kept. */
export function cacheDirectory() {
  const { CRYOBOX_CACHE, XDG_CACHE_HOME } = process.env;
  return CRYOBOX_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'cryobox');
}

/** Fetches the kernel for a processor, by default this host's, unless one is in the cache. */
export async function ensureKernel(architecture = process.arch) {
  const row = architectureRow(architecture);
  const root = join(cacheDirectory(), row.kernelFolder);
  await mkdir(root, { recursive: true });
  const current = await currentVersion(root);
  if (current) return `${current}, up to date`;
  const work = await mkdtemp(join(root, '.fetch-'));
  try {
    const apt = await aptFor(row.debian, work);
    const meta = `${row.kernelPackage}${apt.suffix}`;
    const tree = await unpackPackages(apt, work, () => kernelPackages(apt, meta), meta);
    const version = await publish(tree, work, root);
    await writeFile(join(work, 'current'), `${version}\n`);
    await rename(join(work, 'current'), join(root, 'current'));
    return `${version}, fetched`;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The image, and since kernel 7 the packages that it is empty without: the kernel, its modules, and lists of them. */
async function kernelPackages(apt, meta) {
  const [image] = await dependencies(apt, meta, /^linux-image-/);
  return image ? [image, ...(await dependencies(apt, image, /^linux-(base|binary|modules)-[0-9]/))] : [];
}

async function currentVersion(root) {
  const version = (await readFile(join(root, 'current'), 'utf8').catch(() => '')).trim();
  const whole = version !== '' && existsSync(join(root, version, 'boot', `vmlinuz-${version}`));
  return whole ? version : undefined;
}

/** Moves kernel image and modules to `<root>/<version>`, in one rename. */
async function publish(tree, work, root) {
  // Debian 13 and later keep modules below usr/.
  const modules = [join(tree, 'lib/modules'), join(tree, 'usr/lib/modules')].find((path) => existsSync(path));
  if (!modules) throw new SetupError('The kernel packages hold no lib/modules');
  const { version, image } = await findImage(tree, modules);
  const staged = join(work, 'staged');
  await mkdir(join(staged, 'boot'), { recursive: true });
  await mkdir(join(staged, 'lib'));
  await rename(image, join(staged, 'boot', `vmlinuz-${version}`));
  await rename(modules, join(staged, 'lib/modules'));
  await rm(join(root, version), { recursive: true, force: true });
  await rename(staged, join(root, version));
  return version;
}

/** In boot/, or since kernel 7 beside its modules. */
async function findImage(tree, modules) {
  const inBoot = await readdir(join(tree, 'boot')).catch(() => []);
  const name = inBoot.find((it) => it.startsWith('vmlinuz-'));
  if (name) return { version: name.slice('vmlinuz-'.length), image: join(tree, 'boot', name) };
  for (const version of await readdir(modules)) {
    const image = join(modules, version, 'vmlinuz');
    if (existsSync(image)) return { version, image };
  }
  throw new SetupError(
    'The kernel packages hold no kernel: neither boot/vmlinuz-* nor lib/modules/*/vmlinuz',
  );
}
