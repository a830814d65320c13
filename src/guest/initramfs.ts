import { type CpioEntry, encodeCpio } from './cpio.js';
import { readGuestFile } from './guest-file.js';
import { findKernel, type GuestKernel } from './kernel.js';

/** What a machine boots with. */
export interface InitramfsOptions {
  /** Unpacked kernel package, see {@link findKernel}. */
  readonly kernelDirectory: string;
  /** The agent: a static executable. */
  readonly agentPath: string;
}

/** An initramfs in memory: a few megabytes. */
export interface Initramfs {
  /** The archive; equal inputs give equal archives. */
  readonly content: Buffer;
  readonly kernel: GuestKernel;
}

/**
 * Makes the initramfs of a machine: the agent as `/init`, the modules it loads, and nothing else.
 * @throws CryoboxError `config_error` when kernel, driver or agent are missing.
 */
export async function buildInitramfs(options: InitramfsOptions): Promise<Initramfs> {
  const kernel = await findKernel(options.kernelDirectory);
  const agent = await readGuestFile(options.agentPath);
  const entries: CpioEntry[] = [];
  for (const path of ['dev', 'proc', 'sys', 'run', 'tmp', 'etc', 'etc/cryobox', 'modules']) {
    entries.push({ type: 'directory', path, mode: 0o755 });
  }
  // The kernel opens it for the first process before anything is mounted.
  entries.push({ type: 'character', path: 'dev/console', mode: 0o600, major: 5, minor: 1 });
  entries.push({ type: 'file', path: 'init', mode: 0o755, content: agent });
  let list = '';
  for (const { name, content } of kernel.modules) {
    const path = `modules/${name}.ko`;
    entries.push({ type: 'file', path, mode: 0o644, content });
    list += `/${path}\n`;
  }
  entries.push({ type: 'file', path: 'etc/cryobox/modules', mode: 0o644, content: Buffer.from(list) });
  return { content: Buffer.concat([...encodeCpio(entries)]), kernel };
}
