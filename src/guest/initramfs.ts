import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CryoboxError } from '../errors.js';
import { type CpioEntry, writeCpio } from './cpio.js';
import { guestModules } from './kernel.js';

/** An initial file system: the agent as init, and the modules it loads. */
export interface Initramfs {
  readonly bytes: Buffer;
  readonly sha256: string;
}

const directoryMode = 0o040755;
const programMode = 0o100755;
const fileMode = 0o100644;
const deviceMode = 0o020600;

/** Where the agent finds the list of modules to load, one path a line, in order. */
const moduleList = 'etc/cryobox/modules';

/** Builds the initial file system. The same inputs give the same bytes. Throws `config_error`. */
export async function buildInitramfs(options: {
  /** Laid out like a Debian linux-image package. */
  readonly kernelDirectory: string;
  readonly agentPath: string;
}): Promise<Initramfs> {
  const version = await kernelVersion(options.kernelDirectory);
  const modules = await guestModules(options.kernelDirectory, version);
  const files = modules.map(({ name }) => `modules/${name}.ko`);
  const entries: CpioEntry[] = [
    ...['dev', 'etc', 'etc/cryobox', 'modules', 'proc', 'run', 'sys', 'newroot'].map(directory),
    { path: 'dev/console', mode: deviceMode, device: [5, 1] },
    { path: 'init', mode: programMode, content: await readFile(options.agentPath) },
    { path: moduleList, mode: fileMode, content: Buffer.from(files.map((file) => `/${file}\n`).join('')) },
  ];
  for (const [index, module] of modules.entries()) {
    entries.push({ path: files[index] ?? module.name, mode: fileMode, content: await readFile(module.path) });
  }
  const bytes = writeCpio(entries);
  return { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}

function directory(path: string): CpioEntry {
  return { path, mode: directoryMode };
}

async function kernelVersion(kernelDirectory: string): Promise<string> {
  const versions = await readdir(join(kernelDirectory, 'lib', 'modules'));
  const [version] = versions;
  if (version !== undefined && versions.length === 1) return version;
  throw new CryoboxError(
    'config_error',
    `${kernelDirectory} holds ${versions.length} kernels, expected one`,
    {
      hint: 'Run `npm run setup` again.',
    },
  );
}
