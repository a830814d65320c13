/** Inodes as they are read (kernel documentation, ext4, "Index Nodes", "Inode Timestamps"). */
import { extentsFlag } from '../inode.js';

/** i_flags: the content lies in the inode and among its attributes. */
const inlineFlag = 0x10000000;
const encryptedFlag = 0x800;

/** The bits of i_mode that say what a file is. */
export const fileKind = {
  mask: 0o170000,
  regular: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  characterDevice: 0o020000,
  blockDevice: 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
} as const;

const kinds = new Set<number>(Object.values(fileKind).filter((bits) => bits !== fileKind.mask));

/** One file as its inode describes it. Its bytes are read when they are asked for. */
export class Inode {
  readonly number: number;
  /** All bytes of it on the disk. */
  readonly bytes: Buffer;

  /** `bytes` is kept: it must not change. */
  constructor(number: number, bytes: Buffer) {
    this.number = number;
    this.bytes = bytes;
  }

  /** Type and permissions, as stat(2) has them. */
  get mode(): number {
    return this.bytes.readUInt16LE(0x00);
  }

  /** One of {@link fileKind}, or something else in a damaged one. */
  get kind(): number {
    return this.mode & fileKind.mask;
  }

  get isDirectory(): boolean {
    return this.kind === fileKind.directory;
  }

  /** Whether it is in use, as far as it says itself. */
  get isUsed(): boolean {
    return this.bytes.readUInt16LE(0x1a) > 0 && kinds.has(this.kind);
  }

  /** Names that it has. */
  get links(): number {
    return this.bytes.readUInt16LE(0x1a);
  }

  get uid(): number {
    return this.bytes.readUInt16LE(0x02) + this.bytes.readUInt16LE(0x78) * 2 ** 16;
  }

  get gid(): number {
    return this.bytes.readUInt16LE(0x18) + this.bytes.readUInt16LE(0x7a) * 2 ** 16;
  }

  /** Length of its content in bytes. A damaged one may say anything up to 2^64. */
  get size(): number {
    return this.bytes.readUInt32LE(0x04) + this.bytes.readUInt32LE(0x6c) * 2 ** 32;
  }

  /** Seconds and nanoseconds of the last change of its content, as one text that is the same for the same time. */
  get modifiedAt(): string {
    const hasExtra = this.extraBytes >= 12;
    return `${this.bytes.readInt32LE(0x10)}.${hasExtra ? this.bytes.readUInt32LE(0x88) : 0}`;
  }

  /** Bytes of fields behind the first 128; attributes begin behind them. */
  get extraBytes(): number {
    return this.bytes.length > 128 ? this.bytes.readUInt16LE(0x80) : 0;
  }

  get hasExtents(): boolean {
    return (this.#flags & extentsFlag) !== 0;
  }

  get isInline(): boolean {
    return (this.#flags & inlineFlag) !== 0;
  }

  get isEncrypted(): boolean {
    return (this.#flags & encryptedFlag) !== 0;
  }

  get #flags(): number {
    return this.bytes.readUInt32LE(0x20);
  }

  /** The 60 bytes of i_block: extent tree, short content, link or device number. */
  get content(): Buffer {
    return this.bytes.subarray(0x28, 0x28 + 60);
  }

  /** Block of the attributes outside of it; 0: there is none. */
  get attributeBlock(): number {
    return this.bytes.readUInt32LE(0x68) + this.bytes.readUInt16LE(0x76) * 2 ** 32;
  }
}
