import { createHash } from 'node:crypto';
import { chmod, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { absoluteDirectory, environmentValue, userHome } from '../../base/environment.js';
import { ifExists } from '../../base/files.js';
import { missingFileHint, packageFile, setUpHint } from '../../base/package-files.js';
import { CryoboxError } from '../../errors.js';
import { buildInitramfs, onDemandVersion } from '../../guest/index.js';
import { type ArchitectureName, architectureOf, hostArchitecture } from '../../machine/index.js';
import type { HomePaths } from '../core/home.js';

/** What every machine of a home boots from or runs with. */
export interface GuestAssets {
  readonly kernelPath: string;
  readonly kernelVersion: string;
  /** Where its modules are, as set-up fetched them; outside of the home. */
  readonly kernelDirectory: string;
  readonly initramfsPath: string;
  /** Preloaded into QEMU; see agent/netguard. */
  readonly guardPath: string;
  /** The other end of a network card; see gateway/. */
  readonly gatewayPath: string;
  /** SHA-256 over kernel, initramfs, agent and the list of modules: part of a golden machine's key. */
  readonly key: string;
}

/** Where set-up keeps what all homes of a user share: `CRYOBOX_CACHE`, else `~/.cache/cryobox`. */
export function cacheDirectory(): string {
  const given = environmentValue('CRYOBOX_CACHE');
  // Relative paths are to be ignored there (freedesktop.org, XDG Base Directory Specification).
  const caches = absoluteDirectory('XDG_CACHE_HOME') ?? join(userHome(), '.cache');
  return given === undefined ? join(caches, 'cryobox') : resolve(given);
}

/**
 * The compiled guest programs in the package, by default for the processor of this host: those for x86-64 lie in
 * `dist/guest`, those for other processors in a folder named as Node names them.
 */
export function guestProgramPath(
  name: 'cryobox-agent' | 'netguard.so' | 'cryobox-gateway',
  architecture: string = process.arch,
): string {
  return packageFile(join('dist/guest', architecture === 'x64' ? '' : architecture, name));
}

/** Where kernels are kept: those for x86-64 in `kernel`, others in a folder that names their processor. */
function kernelFolder(architecture: ArchitectureName): string {
  return architecture === 'x64' ? 'kernel' : `kernel-${architecture}`;
}

/** The kernel that set-up fetched, by default for this host's processor. Throws `config_error` when there is none. */
export async function findKernel(
  architecture: ArchitectureName = hostArchitecture().name,
): Promise<{ version: string; directory: string }> {
  const kernels = join(cacheDirectory(), kernelFolder(architecture));
  const version = (await ifExists(readFile(join(kernels, 'current'), 'utf8')))?.trim();
  if (!version) {
    throw new CryoboxError('config_error', `no guest kernel in ${kernels}`, {
      hint: setUpHintFor(architecture),
    });
  }
  return { version, directory: join(kernels, version) };
}

/** What brings the kernel and the QEMU of an architecture. */
export function setUpHintFor(architecture: ArchitectureName): string {
  if (architecture === hostArchitecture().name) return setUpHint;
  return `Run \`npx cryobox setup --platform linux/${architectureOf(architecture).platform}\`.`;
}

/**
 * Finds what machines of an architecture boot and run with, by default those of this host's, and puts it into the home: kernel
 * and agent are of that architecture, guard and gateway of the host. Throws `config_error`.
 */
export async function prepareAssets(
  paths: HomePaths,
  architecture: ArchitectureName = hostArchitecture().name,
): Promise<GuestAssets> {
  const kernel = await findKernel(architecture);
  const agentPath = guestProgramPath('cryobox-agent', architecture);
  const kernelPath = join(kernel.directory, 'boot', `vmlinuz-${kernel.version}`);
  await requireFile(kernelPath, setUpHintFor(architecture));
  await requireFile(agentPath, missingFileHint());
  const { content } = await buildInitramfs({ kernelDirectory: kernel.directory, agentPath });
  const initramfsHash = sha256(content);
  const initramfsPath = await keep(paths, 'initramfs', content, { hash: initramfsHash });
  const guardPath = await keep(paths, 'guard', await readProgram('netguard.so'));
  const gatewayPath = await keep(paths, 'gateway', await readProgram('cryobox-gateway'), { mode: 0o555 });
  const key = sha256(Buffer.from(JSON.stringify([kernel.version, initramfsHash, onDemandVersion])));
  const homeKernel = await keep(paths, 'kernel', await readFile(kernelPath));
  return {
    kernelPath: homeKernel,
    kernelVersion: kernel.version,
    kernelDirectory: kernel.directory,
    initramfsPath,
    guardPath,
    gatewayPath,
    key,
  };
}

async function requireFile(path: string, hint: string): Promise<void> {
  if (await ifExists(stat(path))) return;
  throw new CryoboxError('config_error', `${path} is missing`, { hint });
}

async function readProgram(name: 'netguard.so' | 'cryobox-gateway'): Promise<Buffer> {
  const path = guestProgramPath(name);
  await requireFile(path, missingFileHint());
  return await readFile(path);
}

/** Keeps content in the home under its hash, readable by every machine's user. What is there needs no room. */
async function keep(
  paths: HomePaths,
  name: string,
  content: Uint8Array,
  { hash = sha256(content), mode = 0o444 }: { readonly hash?: string; readonly mode?: number } = {},
): Promise<string> {
  const path = join(paths.guest, `${name}-${hash.slice(0, 16)}`);
  if (await ifExists(stat(path))) return path;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, content);
    await chmod(temporary, mode);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  return path;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
