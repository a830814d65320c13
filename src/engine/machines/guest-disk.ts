import { execFile } from 'node:child_process';
import { rm, truncate } from 'node:fs/promises';
import { promisify } from 'node:util';
import { CryoboxError, messageOf } from '../../errors.js';

/** Size of the guest system disk: what the agent keeps there is small. */
const guestDiskBytes = 16 * 1024 * 1024;
const makeTimeoutMs = 30_000;

/** A fixed identity, so that the same golden machine gets the same bytes. */
const guestDiskUuid = '6372796f-626f-4000-8000-677565737400';

/**
 * Makes the guest system disk, an ext4 file system of its own, and returns its size in bytes.
 * Throws `config_error` when mke2fs is missing or fails; no file is left then.
 */
export async function buildGuestDisk(options: { readonly path: string }): Promise<number> {
  const { path } = options;
  const features = [
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-E',
    `hash_seed=${guestDiskUuid},lazy_itable_init=0,root_owner=0:0`,
  ];
  const args = ['-q', '-F', ...features, '-U', guestDiskUuid, '-L', 'cryobox-guest', path, '16M'];
  try {
    await promisify(execFile)('mke2fs', args, {
      timeout: makeTimeoutMs,
      env: {
        PATH: `${process.env.PATH ?? ''}:/sbin:/usr/sbin`,
        LC_ALL: 'C',
        SOURCE_DATE_EPOCH: '0',
        E2FSPROGS_FAKE_TIME: '1',
      },
    });
    await truncate(path, guestDiskBytes);
    return guestDiskBytes;
  } catch (error) {
    await rm(path, { force: true });
    throw new CryoboxError('config_error', `mke2fs could not make the guest disk: ${messageOf(error)}`, {
      cause: error,
      hint: 'Install e2fsprogs (Debian: apt-get install e2fsprogs).',
    });
  }
}
