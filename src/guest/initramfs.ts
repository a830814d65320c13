import { createHash } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { CryoboxError, wrapHostError } from '../errors.js';
import { type CpioEntry, encodeCpio } from './cpio.js';
import { findKernel, type GuestKernel } from './kernel.js';

/** Agent and modules are a few MiB; what is larger is not what was meant. */
const maxFileBytes = 64 * 1024 * 1024;

/** What a machine boots with. */
export interface InitramfsOptions {
  /** Unpacked kernel package, see {@link findKernel}. */
  readonly kernelDirectory: string;
  /** The agent: a static executable. */
  readonly agentPath: string;
  /** Where to write the archive; replaced when there. */
  readonly outputPath: string;
}

/** A written initramfs. */
export interface Initramfs {
  readonly path: string;
  /** Of the archive; equal inputs give equal archives. */
  readonly sha256: string;
  readonly kernel: GuestKernel;
}

/**
 * Writes the initramfs of a machine: the agent as `/init`, the modules it loads, and nothing else.
 * @throws CryoboxError `config_error` when kernel, driver or agent are missing; `disk_full`, `storage_error`.
 */
export async function buildInitramfs(options: InitramfsOptions): Promise<Initramfs> {
  const kernel = await findKernel(options.kernelDirectory);
  const agent = await readSmallFile(options.agentPath);
  const entries: CpioEntry[] = [];
  for (const path of ['dev', 'proc', 'sys', 'run', 'tmp', 'etc', 'etc/cryobox', 'modules']) {
    entries.push({ type: 'directory', path, mode: 0o755 });
  }
  // The kernel opens it for the first process before anything is mounted.
  entries.push({ type: 'character', path: 'dev/console', mode: 0o600, major: 5, minor: 1 });
  entries.push({ type: 'file', path: 'init', mode: 0o755, content: agent });
  let list = '';
  for (const modulePath of kernel.modulePaths) {
    const path = `modules/${basename(modulePath)}`;
    entries.push({ type: 'file', path, mode: 0o644, content: await readSmallFile(modulePath) });
    list += `/${path}\n`;
  }
  entries.push({ type: 'file', path: 'etc/cryobox/modules', mode: 0o644, content: Buffer.from(list) });
  const sha256 = await writeArchive(options.outputPath, entries);
  return { path: options.outputPath, sha256, kernel };
}

async function readSmallFile(path: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > maxFileBytes) {
      throw new CryoboxError('config_error', `${path} has ${size} bytes, expected at most ${maxFileBytes}`);
    }
    return await readFile(path);
  } catch (error) {
    throw wrapHostError(error, `reading ${path}`, 'config_error');
  }
}

async function writeArchive(path: string, entries: readonly CpioEntry[]): Promise<string> {
  const hash = createHash('sha256');
  try {
    const file = await open(path, 'w', 0o644);
    try {
      for (const piece of encodeCpio(entries)) {
        hash.update(piece);
        await file.writeFile(piece);
      }
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw wrapHostError(error, `writing ${path}`);
  }
  return hash.digest('hex');
}
