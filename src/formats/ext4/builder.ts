/**
 * Builds an ext4 file system in a sparse file, as any user, from content that arrives file by file and a tree that is
 * known at the end. Content goes straight to its place; names, owners and modes live in memory until the end. The host
 * never sees the image's files, so nothing in an image can touch it, and the same input always gives the same bytes.
 */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { toBytes } from '../../base/tar/names.js';
import { FileType, type TreeNode } from '../tree/tree.js';
import { BlockAllocator, type BlockRun } from './allocator.js';
import { encodeAttributes, sealAttributeBlock } from './attributes.js';
import { crc32c } from './crc32c.js';
import { countDirectoryBlocks, countSubdirectories, directoryBlocks } from './directory.js';
import { DiskFile } from './disk-file.js';
import { appendExtent, countBlocks, encodeExtents } from './extents.js';
import { blockSize, firstInode, Geometry, inodesPerGroup } from './geometry.js';
import { encodeDevice, encodeInode, extentsFlag, inodeSeed } from './inode.js';
import { InodeTable } from './inode-table.js';
import { numberNodes, rootInode } from './numbering.js';
import { JournalAndResize, journalInode } from './reserved.js';
import { encodeDescriptor, encodeSuperblock } from './superblock.js';

/** Content is stored in pieces of this size; a piece of zeros becomes a hole. */
const pieceBytes = 128 * 1024;
const zeros = Buffer.alloc(pieceBytes);
/** A symlink shorter than this lies in its inode. */
const inlineTargetBytes = 60;
/** A directory with more links than this has 1 instead (dir_nlink). */
const maxDirectoryLinks = 65_000;

/** The next bytes of a file's content, valid until the next call; undefined at the end. */
export type ContentSource = () => Promise<Buffer | undefined>;

/** A file system under construction. */
export class Ext4Builder {
  readonly #path: string;
  readonly #geometry: Geometry;
  readonly #file: DiskFile;
  readonly #blocks: BlockAllocator;
  readonly #uuid: Buffer;
  readonly #hashSeed: Buffer;
  readonly #seed: number;
  readonly #reserved: JournalAndResize;
  readonly #piece = Buffer.allocUnsafe(pieceBytes);
  #released: BlockRun[] = [];
  #finished = false;

  private constructor(path: string, geometry: Geometry, file: DiskFile, identity: string) {
    this.#path = path;
    this.#geometry = geometry;
    this.#file = file;
    this.#blocks = new BlockAllocator(geometry);
    this.#uuid = deriveUuid(`${identity} uuid`);
    this.#hashSeed = deriveUuid(`${identity} hash seed`);
    this.#seed = crc32c(0xffffffff, this.#uuid);
    this.#reserved = new JournalAndResize(geometry, this.#blocks);
  }

  /**
   * Begins a file system of `sizeBytes` in a new file. `identity` decides its uuid.
   * Throws `invalid_argument` for a size that is not a multiple of 128 MiB.
   */
  static async create(options: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly identity: string;
  }): Promise<Ext4Builder> {
    const geometry = new Geometry(options.sizeBytes);
    const file = await DiskFile.create(options.path, options.sizeBytes);
    return new Ext4Builder(options.path, geometry, file, options.identity);
  }

  /** Stores a file's content and returns where it lies. */
  async storeContent(source: ContentSource): Promise<number[]> {
    const extents: number[] = [];
    let fileBlock = 0;
    let filled = 0;
    for (let chunk = await source(); chunk; chunk = await source()) {
      for (let at = 0; at < chunk.length; ) {
        const count = Math.min(pieceBytes - filled, chunk.length - at);
        chunk.copy(this.#piece, filled, at, at + count);
        filled += count;
        at += count;
        if (filled < pieceBytes) continue;
        await this.#storePiece(extents, fileBlock, this.#piece);
        fileBlock += pieceBytes / blockSize;
        filled = 0;
      }
    }
    if (filled > 0) await this.#storePiece(extents, fileBlock, this.#piece.subarray(0, filled));
    return extents;
  }

  /** Gives the blocks of a file back that nothing points at any more. */
  releaseContent(node: TreeNode): void {
    const { extents } = node;
    for (let at = 0; at + 2 < extents.length; at += 3) {
      const run = { start: extents[at + 1] ?? 0, count: extents[at + 2] ?? 0 };
      this.#blocks.release(run);
      this.#released.push(run);
    }
    node.extents = [];
  }

  /** Writes the tree and all metadata, and makes the file durable. */
  async finish(root: TreeNode): Promise<void> {
    await this.#clearReleased();
    const table = new InodeTable(this.#geometry, this.#file);
    const { nodes, parents } = numberNodes(root, this.#geometry.inodeCount);
    await this.#writeReservedInodes(table, root);
    for (const node of nodes) {
      if (node !== root) await this.#writeNode(table, node, parents.get(node) ?? root);
    }
    await table.flush();
    await this.#writeGroups(table);
    await this.#file.finish();
    await this.#file.close();
    this.#finished = true;
  }

  /** Ends an unfinished build and removes its file; does nothing after {@link finish}. */
  async abort(): Promise<void> {
    if (this.#finished) return;
    this.#finished = true;
    await this.#file.close();
    await rm(this.#path, { force: true });
  }

  async #storePiece(extents: number[], fileBlock: number, bytes: Buffer): Promise<void> {
    if (bytes.equals(zeros.subarray(0, bytes.length))) return;
    let done = 0;
    for (const run of this.#blocks.allocateAll(Math.ceil(bytes.length / blockSize))) {
      const end = done + run.count * blockSize;
      await this.#file.content.write(run.start, bytes.subarray(done, end));
      appendExtent(extents, fileBlock + done / blockSize, run.start, run.count);
      done = end;
    }
  }

  /** Blocks released and not used again hold old content: zeroed, so that the bytes depend on the tree alone. */
  async #clearReleased(): Promise<void> {
    for (const run of this.#released) {
      for (let block = run.start; block < run.start + run.count; block += 1) {
        if (!this.#blocks.isUsed(block)) await this.#file.content.write(block, zeros.subarray(0, blockSize));
      }
    }
    this.#released = [];
  }

  async #writeReservedInodes(table: InodeTable, root: TreeNode): Promise<void> {
    for (let inode = 1; inode < firstInode; inode += 1) {
      if (inode === rootInode) {
        await this.#writeNode(table, root, root);
      } else {
        const bytes = await table.next(inode, false);
        this.#reserved.encode(inode, bytes, inodeSeed(this.#seed, inode));
      }
    }
    await this.#reserved.write(this.#file);
  }

  async #writeNode(table: InodeTable, node: TreeNode, parent: TreeNode): Promise<void> {
    const seed = inodeSeed(this.#seed, node.inode);
    const content = await this.#writeContent(node, parent, seed);
    const attributes = await this.#writeAttributes(node);
    const bytes = await table.next(node.inode, node.type === FileType.directory);
    encodeInode(
      bytes,
      {
        type: node.type,
        permissions: node.mode,
        uid: node.uid,
        gid: node.gid,
        links: linksOf(node),
        size: content.size,
        modifiedAt: node.modifiedAt,
        accessedAt: node.rare?.accessedAt ?? node.modifiedAt,
        blocks: content.blocks + (attributes.block === undefined ? 0 : 1),
        flags: content.flags,
        content: content.bytes,
        attributes: attributes.inInode,
        attributeBlock: attributes.block,
      },
      seed,
    );
  }

  async #writeContent(node: TreeNode, parent: TreeNode, seed: number): Promise<NodeContent> {
    if (node.type === FileType.regular) return await this.#writeExtents(node.extents, node.size, seed);
    if (node.type === FileType.directory) return await this.#writeDirectory(node, parent, seed);
    if (node.type === FileType.symlink) return await this.#writeSymlink(node, seed);
    const bytes = node.device ? encodeDevice(node.device) : Buffer.alloc(60);
    return { bytes, size: 0, blocks: 0, flags: 0 };
  }

  async #writeExtents(extents: readonly number[], size: number, seed: number): Promise<NodeContent> {
    const tree = encodeExtents(extents, seed, () => this.#blocks.allocate(1).start);
    for (const { block, bytes } of tree.blocks) await this.#file.content.write(block, bytes);
    return { bytes: tree.root, size, blocks: countBlocks(extents) + tree.blocks.length, flags: extentsFlag };
  }

  async #writeDirectory(node: TreeNode, parent: TreeNode, seed: number): Promise<NodeContent> {
    const count = countDirectoryBlocks(node);
    const extents: number[] = [];
    const places: number[] = [];
    for (const run of this.#blocks.allocateAll(count)) {
      appendExtent(extents, places.length, run.start, run.count);
      for (let block = run.start; block < run.start + run.count; block += 1) places.push(block);
    }
    let index = 0;
    for (const bytes of directoryBlocks(node, parent, seed)) {
      await this.#file.content.write(places[index] ?? 0, bytes);
      index += 1;
    }
    return await this.#writeExtents(extents, count * blockSize, seed);
  }

  async #writeSymlink(node: TreeNode, seed: number): Promise<NodeContent> {
    const target = toBytes(node.target ?? '');
    if (target.length < inlineTargetBytes) {
      const bytes = Buffer.alloc(60);
      target.copy(bytes);
      return { bytes, size: target.length, blocks: 0, flags: 0 };
    }
    const { start } = this.#blocks.allocate(1);
    await this.#file.content.write(start, target);
    return await this.#writeExtents([0, start, 1], target.length, seed);
  }

  async #writeAttributes(node: TreeNode): Promise<{ inInode?: Buffer; block?: number }> {
    const encoded = node.rare?.attributes && encodeAttributes(node.rare.attributes);
    if (!encoded) return {};
    if (encoded.inInode) return { inInode: encoded.inInode };
    const { start } = this.#blocks.allocate(1);
    sealAttributeBlock(encoded.block, start, this.#seed);
    await this.#file.content.write(start, encoded.block);
    return { block: start };
  }

  /** Bitmaps, then the descriptors and the superblock with all their copies. */
  async #writeGroups(table: InodeTable): Promise<void> {
    const geometry = this.#geometry;
    const descriptors: Buffer[] = [];
    let freeInodes = 0;
    for (let group = 0; group < geometry.groupCount; group += 1) {
      const inodes = table.used(group);
      freeInodes += inodesPerGroup - inodes;
      const facts = {
        freeBlocks: blockSize * 8 - this.#blocks.usedInGroup(group),
        freeInodes: inodesPerGroup - inodes,
        directories: table.directories(group),
        unusedInodes: inodesPerGroup - inodes,
        blockBitmap: this.#blocks.groupBitmap(group),
        inodeBitmap: inodes > 0 ? table.bitmap(group) : undefined,
      };
      await this.#file.write(geometry.blockBitmap(group), facts.blockBitmap);
      if (facts.inodeBitmap) await this.#file.write(geometry.inodeBitmap(group), facts.inodeBitmap);
      descriptors.push(encodeDescriptor(geometry, group, facts, this.#seed));
    }
    const superblockFacts = {
      uuid: this.#uuid,
      hashSeed: this.#hashSeed,
      freeBlocks: this.#blocks.freeCount,
      freeInodes,
      journalInode,
      journalContent: this.#reserved.journalContent,
      journalBytes: this.#reserved.journalBytes,
    };
    for (const group of [0, ...geometry.backupGroups()]) {
      const copy = encodeSuperblock(geometry, superblockFacts, group);
      const bytes = group === 0 ? Buffer.concat([Buffer.alloc(1024), copy]) : copy;
      await this.#file.write(geometry.groupStart(group), bytes);
      await this.#file.write(geometry.groupStart(group) + 1, Buffer.concat(descriptors));
    }
  }
}

interface NodeContent {
  readonly bytes: Buffer;
  readonly size: number;
  readonly blocks: number;
  readonly flags: number;
}

function linksOf(node: TreeNode): number {
  if (node.type !== FileType.directory) return node.links;
  const links = 2 + countSubdirectories(node);
  return links >= maxDirectoryLinks ? 1 : links;
}

/** A name-based uuid (RFC 9562, version 8: custom) from a text. */
function deriveUuid(text: string): Buffer {
  const bytes = createHash('sha256').update(`cryobox base disk ${text}`).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes;
}
