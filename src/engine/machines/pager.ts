import { readFile } from 'node:fs/promises';
import type { Pager } from '../../api/index.js';
import { ifExists } from '../../base/files.js';
import { CryoboxError } from '../../errors.js';
import type { OpenedMemory } from './source.js';

/**
 * A difference above this is pulled in on demand rather than streamed before the guest runs: streaming costs about 1 ms
 * a MiB (docs/FORMATS.md, "Packed or flat"), a page server's start about as much as this.
 */
const lazyAboveBytes = 128 * 1024 * 1024;
/** A streamed difference is memory at once; more of what is free than this share is better taken on demand. */
const freeShare = 0.25;

/**
 * Which way memory comes back. `auto` maps, which shares what is not different, unless a lot is different or memory is
 * short. Throws `unsupported` when `uffd` is asked for and the host does not permit it.
 */
export async function choosePager(asked: Pager, { plan }: OpenedMemory): Promise<'mmap' | 'uffd'> {
  if (asked === 'mmap') return 'mmap';
  if (asked === 'uffd') {
    if (await mayUseUffd()) return 'uffd';
    throw new CryoboxError(
      'unsupported',
      'the pager uffd needs userfaultfd, which this host denies to machines',
      {
        hint: 'Set the sysctl vm.unprivileged_userfaultfd to 1, or use the pager auto or mmap.',
      },
    );
  }
  const wantsLazy = plan.streamBytes > lazyAboveBytes || plan.streamBytes > (await freeBytes()) * freeShare;
  return wantsLazy && (await mayUseUffd()) ? 'uffd' : 'mmap';
}

/** Machines run without privileges, so what counts is what everybody may (userfaultfd(2), since Linux 5.2). */
export async function mayUseUffd(): Promise<boolean> {
  return (await ifExists(readFile('/proc/sys/vm/unprivileged_userfaultfd', 'utf8')))?.trim() === '1';
}

/** Memory that new processes can have (proc(5), `/proc/meminfo`). */
async function freeBytes(): Promise<number> {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  return kib === undefined ? Number.POSITIVE_INFINITY : Number(kib) * 1024;
}
