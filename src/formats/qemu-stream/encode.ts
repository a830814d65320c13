import {
  command,
  PAGE_BITS,
  PAGE_BITS_SUBSECTION,
  PAGE_BYTES,
  RAM_SECTION_ID,
  RAM_SECTION_NAME,
  RAM_SECTION_VERSION,
  type RamBlock,
  ramFlag,
  STREAM_MAGIC,
  STREAM_VERSION,
  saysPageBits,
  sectionType,
} from './format.js';

/** Ranges in one discard command; QEMU's own source sends no more (migration/postcopy-ram.c, MAX_DISCARDS_PER_COMMAND). */
const discardsPerCommand = 12;

function u16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16BE(value);
  return buffer;
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

function u64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt(value));
  return buffer;
}

/** A string with its length in one byte. Names come from validated blocks and constants, so they fit. */
function shortText(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

/** What every stream starts with: magic and version. */
export function streamHeader(): Buffer {
  return Buffer.concat([u32(STREAM_MAGIC), u32(STREAM_VERSION)]);
}

/**
 * The configuration section without capabilities: the destination must run without `x-ignore-shared`.
 * `machineType` is the versioned name, such as `pc-q35-7.2`.
 */
export function configuration(machineType: string): Buffer {
  const name = Buffer.from(machineType, 'utf8');
  const pageBits = saysPageBits(machineType) ? pageBitsSubsection() : [];
  return Buffer.concat([Buffer.from([sectionType.configuration]), u32(name.length), name, ...pageBits]);
}

/** Its name, version 1, and the size as a power of two. */
function pageBitsSubsection(): Buffer[] {
  return [Buffer.from([sectionType.subsection]), shortText(PAGE_BITS_SUBSECTION), u32(1), u32(PAGE_BITS)];
}

/** Footer that closes the RAM section's parts. */
function ramFooter(): Buffer {
  return Buffer.concat([Buffer.from([sectionType.footer]), u32(RAM_SECTION_ID)]);
}

/** The RAM section's start: the list of blocks, whose lengths the destination compares with its own. */
export function ramSetup(blocks: readonly RamBlock[]): Buffer {
  const total = blocks.reduce((sum, block) => sum + block.sizeBytes, 0);
  return Buffer.concat([
    Buffer.from([sectionType.start]),
    u32(RAM_SECTION_ID),
    shortText(RAM_SECTION_NAME),
    u32(0),
    u32(RAM_SECTION_VERSION),
    u64(total + ramFlag.memorySize),
    ...blocks.flatMap((block) => [shortText(block.name), u64(block.sizeBytes)]),
    u64(ramFlag.endOfSection),
    ramFooter(),
  ]);
}

/** Opens a part of the RAM section; page records follow. */
export function ramPartStart(): Buffer {
  return Buffer.concat([Buffer.from([sectionType.part]), u32(RAM_SECTION_ID)]);
}

/** Closes a part of the RAM section. */
export function ramPartEnd(): Buffer {
  return Buffer.concat([u64(ramFlag.endOfSection), ramFooter()]);
}

/** The last, empty part of the RAM section: all pages have been sent. */
export function ramEnd(): Buffer {
  return Buffer.concat([Buffer.from([sectionType.end]), u32(RAM_SECTION_ID), ramPartEnd()]);
}

/** The byte after the last section. */
export function endOfStream(): Buffer {
  return Buffer.from([sectionType.endOfFile]);
}

function commandSection(number: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from([sectionType.command]), u16(number), u16(data.length), data]);
}

/** Asks the destination to send its requests back over the same socket. */
export function openReturnPath(): Buffer {
  return commandSection(command.openReturnPath);
}

/** Announces postcopy with 4 KiB pages on both sides. */
export function postcopyAdvise(): Buffer {
  return commandSection(command.postcopyAdvise, Buffer.concat([u64(PAGE_BYTES), u64(PAGE_BYTES)]));
}

/** A range of pages of a block, by page number. */
export interface PageRange {
  readonly startPage: number;
  readonly pageCount: number;
}

/**
 * Discards ranges of a block: pages that the destination will fault on. At least one discard must be sent: without
 * one QEMU 7.2 leaves its listening state and its load thread waits for itself.
 */
export function postcopyDiscard(block: RamBlock, ranges: readonly PageRange[]): Buffer {
  const commands: Buffer[] = [];
  for (let at = 0; at < ranges.length; at += discardsPerCommand) {
    const pairs = ranges
      .slice(at, at + discardsPerCommand)
      .flatMap((range) => [u64(range.startPage * PAGE_BYTES), u64(range.pageCount * PAGE_BYTES)]);
    const data = Buffer.concat([Buffer.from([0]), shortText(block.name), Buffer.from([0]), ...pairs]);
    commands.push(commandSection(command.postcopyRamDiscard, data));
  }
  return Buffer.concat(commands);
}

/**
 * The switch to postcopy: one package the destination reads whole before it acts, holding the listen command, the
 * device sections and the run command.
 */
export function postcopyPackage(deviceSections: Buffer): Buffer {
  const inner = Buffer.concat([
    commandSection(command.postcopyListen),
    deviceSections,
    commandSection(command.postcopyRun),
  ]);
  return Buffer.concat([commandSection(command.packaged, u32(inner.length)), inner]);
}
