/**
 * What a journal has that is not in its place yet (kernel documentation, ext4, "Journal (jbd2)"). Nothing is written: a
 * replayed block is read from where the journal keeps it.
 */
import { Turns } from '../../../base/turns.js';
import { crc32c } from '../crc32c.js';
import type { ByteDisk, NewerBlocks } from './blocks.js';
import { damaged, notUnderstood, tooMuch } from './refusals.js';

const magic = 0xc03b3998;
const kinds = { descriptor: 1, commit: 2, superblock: 4, revoke: 5 } as const;
const features = { revoke: 0x1, wide: 0x2, asyncCommit: 0x4, checksum2: 0x8, checksum3: 0x10 } as const;
const fastCommit = 0x20;
const understood = Object.values(features).reduce((all, bit) => all | bit, 0);
const tagFlags = { escaped: 1, sameUuid: 2, last: 8 } as const;
const headerBytes = 12;
const uuidBytes = 16;

/** Blocks of the largest journal that is replayed: 4 GiB in blocks of 4 KiB, four times what mke2fs makes at most. */
const maxJournalBlocks = 2 ** 20;

/** Where a journal is. */
export interface JournalPlace {
  readonly disk: ByteDisk;
  readonly blockSize: number;
  /** Block of the disk of each block of the journal. */
  readonly blockOf: (journalBlock: number) => number;
  /** Blocks of the file that holds the journal. */
  readonly blocks: number;
  /** Names the disk in errors. */
  readonly what: string;
}

interface Facts {
  readonly first: number;
  readonly end: number;
  readonly start: number;
  readonly sequence: number;
  readonly tagBytes: number;
  readonly isWide: boolean;
  readonly hasTag3: boolean;
  /** Seed of checksums, where blocks of the journal have them. */
  readonly seed: number | undefined;
}

interface Copy {
  readonly at: number;
  readonly isEscaped: boolean;
  readonly sequence: number;
  /** CRC-32C of sequence and bytes, or its lower half. */
  readonly checksum: number | undefined;
}

/** Where each replayed block is in the journal. */
class JournalCopies implements NewerBlocks {
  readonly #place: JournalPlace;
  readonly #facts: Facts;
  readonly #copies: ReadonlyMap<number, Copy>;

  constructor(place: JournalPlace, facts: Facts, copies: ReadonlyMap<number, Copy>) {
    this.#place = place;
    this.#facts = facts;
    this.#copies = copies;
  }

  get size(): number {
    return this.#copies.size;
  }

  has(block: number): boolean {
    return this.#copies.has(block);
  }

  *between(first: number, end: number): Generator<number> {
    for (const block of this.#copies.keys()) if (block >= first && block < end) yield block;
  }

  async read(block: number): Promise<Buffer> {
    const copy = this.#copies.get(block);
    if (!copy) throw damaged(this.#place.what, `block ${block} is not in the journal`);
    const bytes = await readBlock(this.#place, copy.at);
    const { seed, hasTag3 } = this.#facts;
    if (seed !== undefined && copy.checksum !== undefined) {
      const sum = crc32c(crc32c(seed, bigEndian(copy.sequence)), bytes);
      if ((hasTag3 ? sum : sum & 0xffff) !== copy.checksum) {
        throw damaged(this.#place.what, `the journal's copy of block ${block} is not what was written`);
      }
    }
    // A block that begins as one of the journal's own is stored without that.
    if (copy.isEscaped) bytes.writeUInt32BE(magic, 0);
    return bytes;
  }
}

/**
 * Goes through the transactions of a journal as recovery does: those that were committed count, up to the first that was
 * not; a block that was revoked counts from later transactions only. At most some 100 bytes of memory for each block of the
 * journal. Throws `disk_image_invalid` for a journal that contradicts itself or has what is not understood,
 * `resource_exhausted` for a larger one than is replayed.
 */
export async function replayJournal(place: JournalPlace): Promise<NewerBlocks> {
  const facts = parseFacts(await readBlock(place, 0), place);
  const copies = new Map<number, Copy>();
  if (facts.start === 0) return new JournalCopies(place, facts, copies);
  const turns = new Turns();
  const log = new LogReader(place, facts);
  const revoked = new Map<number, number>();
  const replayed: { block: number; copy: Copy }[] = [];
  let sequence = facts.sequence;
  for (;;) {
    const transaction = await log.transaction(sequence, turns);
    if (!transaction) break;
    for (const block of transaction.revoked) revoked.set(block, sequence);
    for (const copy of transaction.copies) replayed.push(copy);
    if (replayed.length > maxJournalBlocks || revoked.size > 8 * maxJournalBlocks) {
      throw tooMuch(place.what, 'its journal names more blocks than it holds');
    }
    sequence = (sequence + 1) >>> 0;
  }
  for (const { block, copy } of replayed) {
    const last = revoked.get(block);
    // Sequences count on through 2^32.
    if (last !== undefined && ((last - copy.sequence) | 0) >= 0) continue;
    copies.set(block, copy);
  }
  return new JournalCopies(place, facts, copies);
}

function parseFacts(bytes: Buffer, place: JournalPlace): Facts {
  const { what } = place;
  if (bytes.readUInt32BE(0) !== magic || bytes.readUInt32BE(4) !== kinds.superblock) {
    throw damaged(what, 'its journal has no superblock');
  }
  if (bytes.readUInt32BE(0x0c) !== place.blockSize) throw damaged(what, 'its journal has other blocks');
  const start = bytes.readUInt32BE(0x1c);
  const set = bytes.readUInt32BE(0x28);
  if (start !== 0) {
    const refused = [];
    if ((set & fastCommit) !== 0) refused.push('fast_commit in its journal');
    const rest = (set & ~understood & ~fastCommit) >>> 0;
    if (rest !== 0) refused.push(`features 0x${rest.toString(16)} of its journal`);
    if (refused.length > 0) throw notUnderstood(what, refused);
  }
  const end = bytes.readUInt32BE(0x10);
  const first = bytes.readUInt32BE(0x14);
  if (end > place.blocks || first < 1 || first >= end || (start !== 0 && (start < first || start >= end))) {
    throw damaged(what, 'its journal lies outside of its file');
  }
  if (end > maxJournalBlocks) throw tooMuch(what, `its journal has ${end} blocks, over ${maxJournalBlocks}`);
  const isWide = (set & features.wide) !== 0;
  const hasTag3 = (set & features.checksum3) !== 0;
  const hasTag2 = (set & features.checksum2) !== 0;
  return {
    first,
    end,
    start,
    sequence: bytes.readUInt32BE(0x18),
    isWide,
    hasTag3,
    tagBytes: hasTag3 ? 16 : 8 + (hasTag2 ? 2 : 0) + (isWide ? 4 : 0),
    seed: hasTag2 || hasTag3 ? crc32c(0xffffffff, bytes.subarray(0x30, 0x40)) : undefined,
  };
}

interface Transaction {
  readonly copies: { block: number; copy: Copy }[];
  readonly revoked: number[];
}

/** Reads the blocks of a log in order; it begins again at its first block behind its last. */
class LogReader {
  readonly #place: JournalPlace;
  readonly #facts: Facts;
  #next: number;
  #left: number;

  constructor(place: JournalPlace, facts: Facts) {
    this.#place = place;
    this.#facts = facts;
    this.#next = facts.start;
    // A log is never longer than once around.
    this.#left = facts.end - facts.first;
  }

  /** The next transaction, or undefined where the log ends: it was not committed, or never begun. */
  async transaction(sequence: number, turns: Turns): Promise<Transaction | undefined> {
    const found: Transaction = { copies: [], revoked: [] };
    while (this.#left > 0) {
      const bytes = await readBlock(this.#place, this.#take());
      if (bytes.readUInt32BE(0) !== magic || bytes.readUInt32BE(8) !== sequence) return undefined;
      const kind = bytes.readUInt32BE(4);
      if (kind === kinds.commit) return this.#isWhole(bytes, headerBytes + 4) ? found : undefined;
      const isKnown = kind === kinds.descriptor || kind === kinds.revoke;
      if (!isKnown || !this.#isWhole(bytes, bytes.length - 4)) return undefined;
      if (kind === kinds.revoke) this.#revoke(bytes, found);
      else if (!this.#describe(bytes, sequence, found)) return undefined;
      await turns.step();
    }
    return undefined;
  }

  #take(): number {
    const at = this.#next;
    this.#next = at + 1 === this.#facts.end ? this.#facts.first : at + 1;
    this.#left -= 1;
    return at;
  }

  /** Whether the checksum of a block of the journal, which counts as zero in itself, is right. */
  #isWhole(bytes: Buffer, at: number): boolean {
    const { seed } = this.#facts;
    if (seed === undefined) return true;
    const expected = bytes.readUInt32BE(at);
    bytes.writeUInt32BE(0, at);
    return crc32c(seed, bytes) === expected;
  }

  #describe(bytes: Buffer, sequence: number, found: Transaction): boolean {
    const { tagBytes, hasTag3, isWide, seed } = this.#facts;
    const end = bytes.length - (seed === undefined ? 0 : 4);
    for (let at = headerBytes; at + tagBytes <= end; ) {
      const flags = hasTag3 ? bytes.readUInt32BE(at + 4) : bytes.readUInt16BE(at + 6);
      const high = isWide ? bytes.readUInt32BE(at + 8) : 0;
      const sum = hasTag3 ? bytes.readUInt32BE(at + 12) : bytes.readUInt16BE(at + 4);
      if (this.#left === 0) return false;
      found.copies.push({
        block: high * 2 ** 32 + bytes.readUInt32BE(at),
        copy: {
          at: this.#take(),
          isEscaped: (flags & tagFlags.escaped) !== 0,
          sequence,
          checksum: seed === undefined ? undefined : sum,
        },
      });
      if ((flags & tagFlags.last) !== 0) break;
      at += tagBytes + ((flags & tagFlags.sameUuid) === 0 ? uuidBytes : 0);
    }
    return true;
  }

  #revoke(bytes: Buffer, found: Transaction): void {
    const { isWide, seed } = this.#facts;
    const width = isWide ? 8 : 4;
    const end = Math.min(bytes.readUInt32BE(headerBytes), bytes.length - (seed === undefined ? 0 : 4));
    for (let at = headerBytes + 4; at + width <= end; at += width) {
      found.revoked.push(
        isWide ? bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4) : bytes.readUInt32BE(at),
      );
    }
  }
}

async function readBlock({ disk, blockSize, blockOf }: JournalPlace, journalBlock: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(blockSize);
  await disk.readInto(bytes, blockOf(journalBlock) * blockSize);
  return bytes;
}

function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
