import { createHash } from 'node:crypto';
import { chmod, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ifExists } from '../base/files.js';
import { CryoboxError } from '../errors.js';
import { buildInitramfs } from '../guest/index.js';
import type { HomePaths } from './home.js';

/** What every machine of a home boots from or runs with. */
export interface GuestAssets {
  readonly kernelPath: string;
  readonly kernelVersion: string;
  readonly initramfsPath: string;
  /** Preloaded into QEMU; see agent/netguard. */
  readonly guardPath: string;
  /** SHA-256 over kernel, initramfs and agent: part of a golden machine's key. */
  readonly key: string;
}

const setupHint = 'Run `npm run setup` (or `cryobox doctor` to see what is missing).';

/** Where set-up keeps what all homes of a user share: `CRYOBOX_CACHE`, else `~/.cache/cryobox`. */
export function cacheDirectory(): string {
  return (
    process.env.CRYOBOX_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'cryobox')
  );
}

/** The compiled guest programs beside the compiled engine. */
export function guestProgramPath(name: 'cryobox-agent' | 'netguard.so'): string {
  return fileURLToPath(new URL(`../guest/${name}`, import.meta.url));
}

/** The kernel that set-up fetched. Throws `config_error` when there is none. */
export async function findKernel(): Promise<{ version: string; directory: string }> {
  const kernels = join(cacheDirectory(), 'kernel');
  const version = (await ifExists(readFile(join(kernels, 'current'), 'utf8')))?.trim();
  if (!version) throw new CryoboxError('config_error', `no guest kernel in ${kernels}`, { hint: setupHint });
  return { version, directory: join(kernels, version) };
}

/** Finds kernel, agent and guard and puts what machines open into the home. Throws `config_error`. */
export async function prepareAssets(paths: HomePaths): Promise<GuestAssets> {
  const kernel = await findKernel();
  const agentPath = guestProgramPath('cryobox-agent');
  const kernelPath = join(kernel.directory, 'boot', `vmlinuz-${kernel.version}`);
  for (const path of [agentPath, kernelPath]) await requireFile(path);
  const temporary = join(paths.guest, `initramfs.${process.pid}.tmp`);
  const initramfs = await buildInitramfs({
    kernelDirectory: kernel.directory,
    agentPath,
    outputPath: temporary,
  });
  const initramfsPath = join(paths.guest, `initramfs-${initramfs.sha256.slice(0, 16)}`);
  await chmod(temporary, 0o444);
  await rename(temporary, initramfsPath);
  const guardPath = await keep(paths, 'guard', await readGuard());
  const key = sha256(Buffer.from(JSON.stringify([kernel.version, initramfs.sha256])));
  const homeKernel = await keep(paths, 'kernel', await readFile(kernelPath));
  return { kernelPath: homeKernel, kernelVersion: kernel.version, initramfsPath, guardPath, key };
}

async function requireFile(path: string): Promise<void> {
  if (await ifExists(stat(path))) return;
  throw new CryoboxError('config_error', `${path} is missing`, { hint: setupHint });
}

async function readGuard(): Promise<Buffer> {
  const path = guestProgramPath('netguard.so');
  await requireFile(path);
  return await readFile(path);
}

/** Keeps content in the home under its hash, readable by every machine's user. */
async function keep(paths: HomePaths, name: string, content: Uint8Array): Promise<string> {
  const path = join(paths.guest, `${name}-${sha256(content).slice(0, 16)}`);
  if (await ifExists(stat(path))) return path;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, content);
    await chmod(temporary, 0o444);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  return path;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
