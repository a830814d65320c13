import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProcess } from '../../base/process/index.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { findOnDemandModules } from '../../guest/index.js';

/** Size of the guest system disk: modules that are loaded on demand take about 9 MB of it. */
const guestDiskBytes = 16 * 1024 * 1024;
const makeTimeoutMs = 30_000;

/** A fixed identity, so that the same golden machine gets the same bytes. */
const guestDiskUuid = '6372796f-626f-4000-8000-677565737400';

/**
 * Makes the guest system disk, an ext4 file system with the kernel's modules for use on demand, and returns its size in
 * bytes. `scratch`: a directory for what lies there meanwhile.
 * Throws `config_error` when mke2fs is missing or fails, `disk_full`, `resource_exhausted`; no file is left then.
 */
export async function buildGuestDisk(options: {
  readonly path: string;
  readonly kernelDirectory: string;
  readonly scratch: string;
}): Promise<number> {
  const { path, kernelDirectory, scratch } = options;
  const content = await mkdtemp(join(scratch, 'guest-'));
  const features = [
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-E',
    `hash_seed=${guestDiskUuid},lazy_itable_init=0,root_owner=0:0`,
  ];
  const identity = ['-U', guestDiskUuid, '-L', 'cryobox-guest'];
  const args = ['-q', '-F', ...features, ...identity, '-d', content, path, '16M'];
  try {
    await writeModules(kernelDirectory, join(content, 'modules'));
    const { code, signal, stderr } = await runProcess('mke2fs', {
      args,
      timeoutMs: makeTimeoutMs,
      env: {
        PATH: `${process.env.PATH ?? ''}:/sbin:/usr/sbin`,
        LC_ALL: 'C',
        SOURCE_DATE_EPOCH: '0',
        E2FSPROGS_FAKE_TIME: '1',
      },
    });
    if (code !== 0) throw failure(signal ?? code, stderr);
    await truncate(path, guestDiskBytes);
    return guestDiskBytes;
  } catch (error) {
    await rm(path, { force: true });
    throw wrapHostError(error, 'making the guest disk', 'config_error');
  } finally {
    await rm(content, { recursive: true, force: true });
  }
}

/** As the agent reads them (agent/src/modprobe.rs): `index`, and a file for each module. */
async function writeModules(kernelDirectory: string, directory: string): Promise<void> {
  const { modules, index } = await findOnDemandModules(kernelDirectory);
  await mkdir(directory);
  await writeFile(join(directory, 'index'), index);
  for (const { name, content } of modules) await writeFile(join(directory, `${name}.ko`), content);
}

/** The program says in words what the system told it. */
function failure(how: string | number | null, words: string): CryoboxError {
  const full = /no space left on device|disk quota exceeded/i.test(words);
  return new CryoboxError(
    full ? 'disk_full' : 'config_error',
    `mke2fs could not make the guest disk: it ended with ${how}: ${words}`,
  );
}
