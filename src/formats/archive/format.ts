/**
 * The `.boxsnap` format, version 6.
 *
 * A tar of regular members: `manifest.json` first, then the members it lists, in its order, then two blocks of zeros.
 * Uncompressed it is that tar and a seal. Compressed it is zstd frames and a seal: the first frame holds the
 * manifest's part of the tar unpacked ("raw blocks"), so its length is known before its content and it can be written
 * last, when the hashes of the members are known; the following frames hold the rest.
 * The seal is a zstd skippable frame (RFC 8878, section 3.1.2) with a CRC-32 of everything before it: zstd and tar
 * pass over it, and no byte of an archive can change unseen, headers and padding included.
 */
import { CryoboxError } from '../../errors.js';

/** The manifest version written. */
export const ARCHIVE_VERSION = 6;
/** Name of the first member. */
export const MANIFEST_NAME = 'manifest.json';
/** Longest manifest read or written: options of a box are a few KiB. */
export const MAX_MANIFEST_BYTES = 1024 * 1024;
/** Most members: two disks and the files of a memory layer, with room. */
export const MAX_MEMBERS = 16;
/** Default limit for all members together, unpacked. */
export const DEFAULT_MAX_TOTAL_BYTES = 256 * 2 ** 30;
/**
 * Most unpacked bytes for one archive byte, after the first {@link RATIO_FREE_BYTES}. Text packs 20 to 1; stretches of
 * zeros, which take no disk when they are unpacked, are not counted.
 */
export const MAX_RATIO = 200;
/** Unpacked bytes that are always allowed: tables of an empty disk pack better than anything. */
export const RATIO_FREE_BYTES = 64 * 2 ** 20;

/**
 * Zeros that are not stored may stand in any archive up to this length. They cost a second of a processor, for they are
 * hashed, and an archive of them can be made of 200 bytes.
 */
export const ZEROS_FREE_BYTES = 2 * 2 ** 30;
/**
 * Beyond that, zeros for each archive byte read: 64 KiB of an archive make up for 4 GiB. A disk that had its holes
 * punched has more than this, and zstd packs zeros themselves 32,768 to 1.
 */
export const MAX_ZEROS_RATIO = 2 ** 16;
/** Zeros after the end: writers fill up a record, which tar lets be at most this long. */
export const MAX_FILLING_BYTES = 2 ** 20;

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** What a member needs beside what it is for: tables, headers, hashes of pages. */
const TABLES_RATIO = 1 / 8;
const TABLES_FREE_BYTES = 64 * MIB;

/** Suffix of members that are disk images. */
export const DISK_SUFFIX = '.qcow2';

/** Most bytes of one member of a box of this shape: a disk or a memory that is full, and its tables. */
export function memberLimitBytes(name: string, shape: { memoryMiB: number; diskSizeGb: number }): number {
  const fullBytes = name.endsWith(DISK_SUFFIX) ? shape.diskSizeGb * GIB : shape.memoryMiB * MIB;
  return Math.ceil(fullBytes * (1 + TABLES_RATIO)) + TABLES_FREE_BYTES;
}

/** Plain names, so that a member can only ever land in the directory given. */
const memberName = /^[a-z0-9][a-z0-9._-]{0,98}$/;

/** Whether a member may have this name. */
export function isMemberName(name: string): boolean {
  return memberName.test(name) && name !== MANIFEST_NAME;
}

/** The error for an archive that is damaged, hostile or of another kind. */
export function invalidArchive(problem: string, cause?: unknown): CryoboxError {
  return new CryoboxError('archive_invalid', `archive: ${problem}`, { cause });
}
