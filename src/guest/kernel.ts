import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CryoboxError, messageOf } from '../errors.js';

/** What the guest needs before its disk is mounted, by module name; those built into a kernel are left out. */
const wantedModules = [
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  'virtio_net',
  'virtio_rng',
  'ext4',
  'crc32c_intel',
  'crc32c_generic',
  'vmgenid',
  'tcp_diag',
];

/** A kernel module and where its file is. */
export interface KernelModule {
  readonly name: string;
  readonly path: string;
}

/** A module says what it needs in its `.modinfo` section, as `key=value` ended by NUL. */
const dependsPattern = /\0depends=([^\0]*)\0/;

/**
 * The modules a guest loads, in an order in which each comes after what it needs, from a directory laid out like a
 * Debian linux-image package. Modules name their dependencies themselves (Linux: scripts/mod/modpost.c, `depends`),
 * so no index made by depmod is needed. Throws `config_error`.
 */
export async function guestModules(kernelDirectory: string, version: string): Promise<KernelModule[]> {
  const files = await moduleFiles(join(kernelDirectory, 'lib', 'modules', version));
  const ordered = new Map<string, KernelModule>();
  const add = async (name: string): Promise<void> => {
    const path = files.get(name);
    if (path === undefined || ordered.has(name)) return;
    for (const needed of await dependenciesOf(path)) await add(needed);
    ordered.set(name, { name, path });
  };
  for (const name of wantedModules) await add(name);
  return [...ordered.values()];
}

async function moduleFiles(root: string): Promise<Map<string, string>> {
  try {
    const names = await readdir(root, { recursive: true });
    const modules = names.filter((name) => name.endsWith('.ko'));
    return new Map(modules.map((name) => [moduleName(name), join(root, name)]));
  } catch (error) {
    throw new CryoboxError('config_error', `the guest kernel's modules cannot be read: ${messageOf(error)}`, {
      cause: error,
      hint: 'Run `npm run setup` again.',
    });
  }
}

async function dependenciesOf(path: string): Promise<string[]> {
  const text = await readFile(path, 'latin1');
  return (dependsPattern.exec(text)?.[1] ?? '').split(',').filter(Boolean).map(moduleName);
}

function moduleName(file: string): string {
  return basename(file, '.ko').replaceAll('-', '_');
}
