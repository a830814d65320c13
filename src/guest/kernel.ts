import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CryoboxError, errnoOf } from '../errors.js';
import { readModuleInfo } from './module-info.js';

/** A kernel and the drivers a machine needs of it. */
export interface GuestKernel {
  /** Such as `6.1.0-30-cloud-amd64`. */
  readonly version: string;
  /** File for QEMU's `-kernel`. */
  readonly imagePath: string;
  /** Files of modules, each after those it needs. */
  readonly modulePaths: readonly string[];
}

/** Without these a machine has no disk, no network, no agent: they must be modules or built in. */
const requiredModules = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_console', 'ext4'];
/** Taken where they are there: randomness, the checksum ext4 asks for by name, clone notice, connection reset. */
const optionalModules = ['virtio_rng', 'crc32c_generic', 'vmgenid', 'inet_diag', 'tcp_diag'];

/**
 * Finds the kernel in a directory laid out like an unpacked Debian package `linux-image-*`: `boot/vmlinuz-VERSION` and
 * `lib/modules/VERSION` (also below `usr/`). With several versions the last by name is taken.
 * @throws CryoboxError `config_error` when kernel or a driver is missing.
 */
export async function findKernel(directory: string): Promise<GuestKernel> {
  const images = (await namesIn(join(directory, 'boot'))).filter((name) => name.startsWith('vmlinuz-'));
  const image = images.sort().at(-1);
  if (image === undefined) {
    throw new CryoboxError('config_error', `there is no boot/vmlinuz-* in ${directory}`);
  }
  const version = image.slice('vmlinuz-'.length);
  const modules = await moduleDirectory(directory, version);
  return {
    version,
    imagePath: join(directory, 'boot', image),
    modulePaths: await orderModules(modules),
  };
}

async function moduleDirectory(directory: string, version: string): Promise<string> {
  for (const place of ['lib/modules', 'usr/lib/modules']) {
    const path = join(directory, place, version);
    if ((await namesIn(path)).length > 0) return path;
  }
  throw new CryoboxError('config_error', `there is no lib/modules/${version} in ${directory}`);
}

/** A depth-first walk over what each module says it needs: `modules.dep` is only made when a package is installed. */
async function orderModules(directory: string): Promise<string[]> {
  const files = await moduleFiles(directory);
  const builtIn = await builtInModules(directory);
  const ordered: string[] = [];
  const seen = new Set<string>();
  const add = async (name: string, neededBy: string | undefined): Promise<void> => {
    if (seen.has(name) || builtIn.has(name)) return;
    seen.add(name);
    const path = files.get(name);
    if (path === undefined) {
      const whom = neededBy === undefined ? 'a machine' : `module ${neededBy}`;
      throw new CryoboxError('config_error', `${directory} has no module ${name}, which ${whom} needs`);
    }
    const info = readModuleInfo(await readFile(path), path);
    for (const needed of info.depends) await add(needed, name);
    ordered.push(path);
  };
  for (const name of optionalModules) if (files.has(name)) await add(name, undefined);
  for (const name of requiredModules) await add(name, undefined);
  return ordered;
}

/** Names use `-` and `_` alike; the underscore is the canonical one. */
function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.[a-z]+)?$/, '')
    .replaceAll('-', '_');
}

async function moduleFiles(directory: string): Promise<Map<string, string>> {
  const names = await readdir(join(directory, 'kernel'), { recursive: true });
  const files = names.filter((name) => /\.ko(\.[a-z]+)?$/.test(name));
  return new Map(files.map((name) => [moduleName(name), join(directory, 'kernel', name)]));
}

async function builtInModules(directory: string): Promise<Set<string>> {
  const list = await readFile(join(directory, 'modules.builtin'), 'utf8');
  return new Set(list.split('\n').filter(Boolean).map(moduleName));
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await stat(directory)).isDirectory() ? await readdir(directory) : [];
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
