/**
 * Numbers of QEMU's migration stream, version 3, as QEMU 7.2 and newer write and read it (QEMU, docs/devel/migration.rst,
 * migration/savevm.h, migration/ram.c, migration/migration.h). Everything on the wire is big-endian.
 */

/** Bytes of a guest page: x86-64 and the 4 KiB granule of arm64. */
export const PAGE_BYTES = 4096;

/** `QEVM`: the first four bytes of every stream and of a saved device state. */
export const STREAM_MAGIC = 0x5145_564d;
/** Name of the subsection that says the size of pages (QEMU, migration/savevm.c, `vmstate_target_page_bits`). */
export const PAGE_BITS_SUBSECTION = 'configuration/target-page-bits';

/** {@link PAGE_BYTES} as a power of two. */
export const PAGE_BITS = Math.log2(PAGE_BYTES);

/** Whether a machine's streams say the size of its pages: QEMU for Arm knows several, and takes the smallest unless told. */
export function saysPageBits(machineType: string): boolean {
  return machineType.startsWith('virt-');
}

/** The only stream version QEMU writes since 2006. */
export const STREAM_VERSION = 3;

/** First byte of a section. */
export const sectionType = {
  endOfFile: 0x00,
  start: 0x01,
  part: 0x02,
  end: 0x03,
  full: 0x04,
  subsection: 0x05,
  vmDescription: 0x06,
  configuration: 0x07,
  command: 0x08,
  footer: 0x7e,
} as const;

/** Low bits of a RAM record's 64-bit header; the rest is the page's offset in its block. */
export const ramFlag = {
  zero: 0x02,
  memorySize: 0x04,
  page: 0x08,
  endOfSection: 0x10,
  sameBlock: 0x20,
  xbzrle: 0x40,
  hook: 0x80,
  compressedPage: 0x100,
  multifdFlush: 0x200,
} as const;

/** Numbers of commands (section 0x08) from the source to the destination. */
export const command = {
  openReturnPath: 1,
  ping: 2,
  postcopyAdvise: 3,
  postcopyListen: 4,
  postcopyRun: 5,
  postcopyRamDiscard: 6,
  packaged: 7,
  enableColo: 8,
  postcopyResume: 9,
  receivedBitmap: 10,
  /** Since QEMU 10.0: the guest stands still, and what follows is the last of it. */
  switchoverStart: 11,
} as const;

/** A number of one of the tables here with its name, such as `command switchoverStart (11)`, for messages. */
export function describe(what: string, table: Readonly<Record<string, number>>, value: number): string {
  const name = Object.keys(table).find((key) => table[key] === value);
  return name ? `${what} ${name} (${value})` : `unknown ${what} ${value}`;
}

/** Types of messages on the return path, from the destination to the source. */
export const returnMessage = {
  shut: 1,
  pong: 2,
  requestPagesOfBlock: 3,
  requestPages: 4,
} as const;

/**
 * Section id our streams give to RAM. QEMU numbers its device sections from zero, so that a device section replayed
 * beside ours can never carry the same number.
 */
export const RAM_SECTION_ID = 0x7fff_0001;
/** Version of the `ram` section since QEMU 0.13. */
export const RAM_SECTION_VERSION = 4;
/** Name of the RAM section. */
export const RAM_SECTION_NAME = 'ram';
/** Name of the capability under which shared memory stays out of the stream. */
export const IGNORE_SHARED = 'x-ignore-shared';

/** A QEMU RAM block: its migration name and the length in use. */
export interface RamBlock {
  /** Such as `mem`, `pc.bios` or `/rom@etc/acpi/tables`; at most 255 bytes. */
  readonly name: string;
  /** A multiple of {@link PAGE_BYTES}. */
  readonly sizeBytes: number;
}
