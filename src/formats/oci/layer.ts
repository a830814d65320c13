/**
 * Applies layers to a tree (OCI image spec, "Image Layer Filesystem Changeset"): entries replace what lower layers
 * brought, `.wh.NAME` hides a name of lower layers, `.wh..wh..opq` hides everything lower layers put into a directory.
 */

import { showName } from '../../base/tar/names.js';
import type { TarEntry, TarReader } from '../../base/tar/reader.js';
import { CryoboxError } from '../../errors.js';
import { AttributesTooLarge, encodeAttributes } from '../ext4/attributes.js';
import type { Ext4Builder } from '../ext4/builder.js';
import { FileType, type FileTypeCode, impliedDirectory, type NodeMetadata, TreeNode } from '../tree/tree.js';
import type { ImageLimits } from './limits.js';
import { isEntryName, joinPath, PathResolver, splitEntryName } from './paths.js';

const whiteoutPrefix = '.wh.';
const opaqueMarker = '.wh..wh..opq';
/** Other names of this form are a union file system's own records and are no files of the image. */
const reservedPrefix = '.wh..wh.';
/** ext4's limit. */
const maxLinks = 65_000;
/** Linux's limit for a symlink's target. */
const maxTargetBytes = 4095;
/** Linux device numbers have 12 and 20 bits. */
const maxMajor = 0xfff;
const maxMinor = 0xfffff;

/** Directories of the root that every box needs, and their modes. */
const mountPlaces = [
  ['dev', 0o755],
  ['etc', 0o755],
  ['proc', 0o755],
  ['run', 0o755],
  ['sys', 0o755],
  ['tmp', 0o1777],
] as const;

const nodeTypes: Record<Exclude<TarEntry['type'], 'link'>, FileTypeCode> = {
  file: FileType.regular,
  directory: FileType.directory,
  symlink: FileType.symlink,
  character: FileType.characterDevice,
  block: FileType.blockDevice,
  fifo: FileType.fifo,
};

/** The tree of an image while its layers are applied, lowest first. */
export class LayerStack {
  readonly root = new TreeNode(FileType.directory, impliedDirectory, 0);
  readonly #disk: Ext4Builder;
  readonly #limits: ImageLimits;
  readonly #paths: PathResolver;
  #layer = -1;
  /** Hard links of this layer to files of lower layers: the node is old, the name is new. */
  readonly #newNames = new Set<string>();
  #entries = 0;
  #devices = 0;
  #totalBytes = 0;

  constructor(disk: Ext4Builder, limits: ImageLimits) {
    this.#disk = disk;
    this.#limits = limits;
    this.#paths = new PathResolver(this.root);
  }

  /**
   * Applies one layer. Throws `image_refused`, naming the entry, for names that leave the image, for kinds of entries
   * that are not unpacked and for what exceeds a limit; `image_invalid` for an archive that makes no sense.
   */
  async apply(tar: TarReader, signal?: AbortSignal): Promise<void> {
    this.#layer += 1;
    this.#newNames.clear();
    for (let entry = await tar.next(); entry; entry = await tar.next()) {
      signal?.throwIfAborted();
      this.#countEntry(entry);
      await this.#applyEntry(entry, tar);
    }
  }

  /** Adds what the guest mounts on and writes in, where the image does not bring it: every box would have to make it. */
  addMountPlaces(): void {
    for (const [name, mode] of mountPlaces) {
      const known = this.root.children?.get(name);
      if (known?.type === FileType.symlink) this.#makeReal(name, known);
      if (known) continue;
      const directory = new TreeNode(FileType.directory, { ...impliedDirectory, mode }, this.#layer);
      this.root.children?.set(name, directory);
    }
  }

  /** Makes a directory where a box begins, as builders do that write no more than its name (WORKDIR). */
  addDirectory(path: string): void {
    // Names in the tree have a character for each byte.
    const name = Buffer.from(path).toString('latin1');
    if (isEntryName(name)) this.#paths.makeReal(splitEntryName(name), this.#layer);
  }

  /** A symlink that is mounted on leads straight to a directory, in the image: the guest mounts before its root is that. */
  #makeReal(name: string, link: TreeNode): void {
    const real = this.#paths.makeReal([name], this.#layer);
    if (!real || real.length === 0) return;
    // Other names of the link keep what it says.
    if (link.links > 1) link.links -= 1;
    const metadata = { mode: link.mode, uid: link.uid, gid: link.gid, modifiedAt: link.modifiedAt };
    const straight = new TreeNode(FileType.symlink, metadata, link.layer, { target: real.join('/') });
    this.root.children?.set(name, straight);
  }

  async #applyEntry(entry: TarEntry, tar: TarReader): Promise<void> {
    const parts = splitEntryName(entry.name);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== 'directory') throw refused(entry, 'would replace the root directory');
      this.root.describe(metadataOf(entry));
      return;
    }
    if (name.startsWith(whiteoutPrefix)) {
      this.#applyWhiteout(entry, parts, name);
      return;
    }
    const replace = (directory: TreeNode, at: string, node: TreeNode): boolean => {
      const isLower = node.layer < this.#layer && !this.#isNewName(directory, at);
      if (isLower) this.#remove(directory, at, node);
      return isLower;
    };
    const parent = this.#paths.makeDirectories(parts, entry.name, this.#layer, replace);
    if (entry.type === 'link') this.#addLink(entry, parent, name);
    else if (entry.type === 'directory') this.#addDirectory(entry, parent, name);
    else await this.#addNode(entry, tar, parent, name);
  }

  #applyWhiteout(entry: TarEntry, parts: readonly string[], name: string): void {
    const parent = this.#paths.find(parts, entry.name);
    if (name === opaqueMarker) {
      if (parent?.children) this.#hideLower(parent);
      return;
    }
    if (name.startsWith(reservedPrefix)) return;
    const hidden = name.slice(whiteoutPrefix.length);
    if (hidden === '' || hidden === '.' || hidden === '..') throw refused(entry, 'is a whiteout of no file');
    const node = parent?.children?.get(hidden);
    if (!parent || !node || this.#isNewName(parent, hidden)) return;
    if (node.layer < this.#layer) this.#remove(parent, hidden, node);
    else if (node.children) this.#hideLower(node);
  }

  /** Removes what lower layers put below a directory and keeps what this layer did. */
  #hideLower(directory: TreeNode): void {
    for (const [name, node] of directory.children ?? []) {
      if (node.layer < this.#layer && !this.#isNewName(directory, name)) this.#remove(directory, name, node);
      else if (node.children) this.#hideLower(node);
    }
  }

  #addDirectory(entry: TarEntry, parent: TreeNode, name: string): void {
    const existing = parent.children?.get(name);
    if (existing?.children) {
      existing.describe(metadataOf(entry));
      existing.layer = this.#layer;
      return;
    }
    if (existing) this.#remove(parent, name, existing);
    parent.children?.set(name, new TreeNode(FileType.directory, metadataOf(entry), this.#layer));
  }

  #addLink(entry: TarEntry, parent: TreeNode, name: string): void {
    const parts = splitEntryName(entry.linkName, entry.name);
    const last = parts.pop();
    const directory = last === undefined ? undefined : this.#paths.find(parts, entry.name);
    const target = last === undefined ? undefined : directory?.children?.get(last);
    if (!target) throw invalid(entry, `is a hard link to ${showName(entry.linkName)}, which does not exist`);
    if (target.children) throw invalid(entry, `is a hard link to the directory ${showName(entry.linkName)}`);
    const existing = parent.children?.get(name);
    if (existing === target) return;
    if (target.links >= maxLinks)
      throw refused(entry, `is one of more than ${maxLinks} hard links to one file`);
    target.links += 1;
    if (existing) this.#remove(parent, name, existing);
    parent.children?.set(name, target);
    if (target.layer < this.#layer) this.#newNames.add(joinPath(this.#paths.idOf(parent), name));
  }

  async #addNode(entry: TarEntry, tar: TarReader, parent: TreeNode, name: string): Promise<void> {
    if (entry.type === 'link') return;
    const existing = parent.children?.get(name);
    if (existing) this.#remove(parent, name, existing);
    const node = new TreeNode(nodeTypes[entry.type], metadataOf(entry), this.#layer, this.#specialsOf(entry));
    if (entry.type === 'file') {
      this.#countBytes(entry);
      node.size = entry.size;
      node.extents = await this.#disk.storeContent(() => tar.read());
    }
    parent.children?.set(name, node);
  }

  #specialsOf(entry: TarEntry): { target?: string; device?: readonly [number, number] } {
    if (entry.type === 'symlink') {
      const target = entry.linkName;
      const usable = target !== '' && target.length <= maxTargetBytes && !target.includes('\0');
      if (!usable) throw refused(entry, `is a symlink whose target has ${target.length} bytes`);
      return { target };
    }
    if (entry.type !== 'character' && entry.type !== 'block') return {};
    const [major, minor] = entry.device;
    if (!(major >= 0 && major <= maxMajor && minor >= 0 && minor <= maxMinor)) {
      throw refused(entry, `is a device with the numbers ${major}:${minor}, which Linux does not have`);
    }
    this.#devices += 1;
    if (this.#devices > this.#limits.maxDevices) {
      throw refused(entry, `is one of more than ${this.#limits.maxDevices} device nodes`);
    }
    return { device: entry.device };
  }

  #remove(parent: TreeNode, name: string, node: TreeNode): void {
    parent.children?.delete(name);
    if (node.children) {
      for (const [childName, child] of node.children) this.#remove(node, childName, child);
      return;
    }
    node.links -= 1;
    if (node.links === 0) this.#disk.releaseContent(node);
  }

  #isNewName(parent: TreeNode, name: string): boolean {
    return this.#newNames.size > 0 && this.#newNames.has(joinPath(this.#paths.idOf(parent), name));
  }

  #countEntry(entry: TarEntry): void {
    this.#entries += 1;
    if (this.#entries > this.#limits.maxEntries) {
      throw refused(entry, `is one of more than ${this.#limits.maxEntries} entries of the image`);
    }
  }

  #countBytes(entry: TarEntry): void {
    const { maxFileBytes, maxTotalBytes } = this.#limits;
    if (entry.size > maxFileBytes) {
      throw refused(entry, `has ${entry.size} bytes; a file may have at most ${maxFileBytes}`);
    }
    this.#totalBytes += entry.size;
    if (this.#totalBytes > maxTotalBytes)
      throw refused(entry, `exceeds the ${maxTotalBytes} bytes an image may unpack to`);
  }
}

function metadataOf(entry: TarEntry): NodeMetadata {
  const ids = [entry.uid, entry.gid];
  if (!ids.every((id) => id >= 0 && id < 2 ** 32)) {
    throw refused(entry, `has the owner ${ids.join(':')}, which Linux does not have`);
  }
  if (entry.attributes) checkAttributes(entry, entry.attributes);
  return {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    modifiedAt: entry.modifiedAt,
    accessedAt: entry.accessedAt,
    attributes: entry.attributes,
  };
}

/** Tells of attributes that do not fit while the entry is known by name. */
function checkAttributes(entry: TarEntry, attributes: ReadonlyMap<string, Buffer>): void {
  try {
    encodeAttributes(attributes);
  } catch (error) {
    if (!(error instanceof AttributesTooLarge)) throw error;
    throw refused(entry, 'has extended attributes of more than 4096 bytes');
  }
}

function refused(entry: TarEntry, what: string): CryoboxError {
  return new CryoboxError('image_refused', `the entry ${showName(entry.name)} ${what}`, {
    details: { entry: entry.name.slice(0, 4096) },
  });
}

function invalid(entry: TarEntry, what: string): CryoboxError {
  return new CryoboxError('image_invalid', `the entry ${showName(entry.name)} ${what}`);
}
