import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CryoboxError, errnoOf } from '../errors.js';
import { readGuestFile } from './guest-file.js';
import { type ModuleInfo, readModuleInfo } from './module-info.js';

/** A kernel and the drivers a machine needs of it. */
export interface GuestKernel {
  /** Such as `6.1.0-30-cloud-amd64`. */
  readonly version: string;
  /** File for QEMU's `-kernel`. */
  readonly imagePath: string;
  /** Modules, each after those it needs. */
  readonly modules: readonly KernelModule[];
}

/** A driver, ready to be loaded. */
export interface KernelModule {
  /** Such as `virtio_net`: with underscores, as the kernel calls it. */
  readonly name: string;
  /** The ELF object, unpacked. */
  readonly content: Buffer;
  readonly info: ModuleInfo;
}

/** A module's file as distributions name it, packed or not. */
const moduleFileName = /\.ko(\.(gz|xz|zst))?$/;

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
  const { version, image } = await kernelImage(directory);
  const tree = await openModules(directory);
  const optional = optionalModules.filter((name) => tree.has(name));
  return {
    version,
    imagePath: join(directory, 'boot', image),
    modules: await tree.order([...optional, ...requiredModules]),
  };
}

async function kernelImage(directory: string): Promise<{ version: string; image: string }> {
  const images = (await namesIn(join(directory, 'boot'))).filter((name) => name.startsWith('vmlinuz-'));
  const image = images.sort().at(-1);
  if (image === undefined) {
    throw new CryoboxError('config_error', `there is no boot/vmlinuz-* in ${directory}`);
  }
  return { image, version: image.slice('vmlinuz-'.length) };
}

async function moduleDirectory(directory: string, version: string): Promise<string> {
  for (const place of ['lib/modules', 'usr/lib/modules']) {
    const path = join(directory, place, version);
    if ((await namesIn(path)).length > 0) return path;
  }
  throw new CryoboxError('config_error', `there is no lib/modules/${version} in ${directory}`);
}

/** The modules of a kernel. */
export interface ModuleTree {
  has(name: string): boolean;
  /** Names of the modules whose file lies directly in a directory, such as `net/netfilter`. */
  inDirectory(directory: string): string[];
  /** The modules named and what they need, each after what it needs; built-in ones left out. `config_error`: one is missing. */
  order(names: readonly string[]): Promise<KernelModule[]>;
}

/** Opens the modules of the kernel in a directory, as {@link findKernel} finds it. @throws CryoboxError `config_error`. */
export async function openModules(directory: string): Promise<ModuleTree> {
  const path = await moduleDirectory(directory, (await kernelImage(directory)).version);
  const files = await moduleFiles(path);
  const builtIn = await builtInModules(path);
  return {
    has: (name) => files.has(name),
    inDirectory: (below) => {
      const wanted = join(path, 'kernel', below);
      return [...files].filter(([, file]) => dirname(file) === wanted).map(([name]) => name);
    },
    order: (names) => orderModules(path, files, builtIn, names),
  };
}

/** A depth-first walk over what each module says it needs: `modules.dep` is only made when a package is installed. */
async function orderModules(
  directory: string,
  files: ReadonlyMap<string, string>,
  builtIn: ReadonlySet<string>,
  names: readonly string[],
): Promise<KernelModule[]> {
  const ordered: KernelModule[] = [];
  const seen = new Set<string>();
  const add = async (name: string, neededBy: string | undefined): Promise<void> => {
    if (seen.has(name) || builtIn.has(name)) return;
    seen.add(name);
    const path = files.get(name);
    if (path === undefined) {
      const whom = neededBy === undefined ? 'a machine' : `module ${neededBy}`;
      throw new CryoboxError('config_error', `${directory} has no module ${name}, which ${whom} needs`);
    }
    const content = await readGuestFile(path);
    const info = readModuleInfo(content, path);
    for (const needed of info.depends) await add(needed, name);
    ordered.push({ name, content, info });
  };
  for (const name of names) await add(name, undefined);
  return ordered;
}

/** Names use `-` and `_` alike; the underscore is the canonical one. */
function moduleName(file: string): string {
  return basename(file).replace(moduleFileName, '').replaceAll('-', '_');
}

async function moduleFiles(directory: string): Promise<Map<string, string>> {
  const names = await readdir(join(directory, 'kernel'), { recursive: true });
  const files = names.filter((name) => moduleFileName.test(name));
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
