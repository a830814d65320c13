/** What changed between two file systems, as a layer of an image (OCI image spec, "Image Layer Filesystem Changeset"). */
import { type TarHeader, tarEnd, tarHeader, tarPadding } from '../../../base/tar/writer.js';
import { CryoboxError } from '../../../errors.js';
import { findChanges } from '../../qcow2/index.js';
import type { Attributes } from '../read/attributes.js';
import { FileSystem } from '../read/file-system.js';
import { fileKind, type Inode } from '../read/inode.js';
import { notUnderstood, tooMuch } from '../read/refusals.js';
import type { NamedDisk } from './index.js';
import { fileChanges } from './walk.js';

/** Bytes of a file that are read at once. */
const pieceBytes = 256 * 1024;
/** Names of files with several names that are remembered: some 50 MB. */
const maxLinks = 200_000;
const whiteout = '.wh.';

/** Name spaces of attributes by the numbers that stand for them on disk (kernel documentation, ext4, "Extended Attributes"). */
const nameSpaces: ReadonlyMap<string, string> = new Map([
  ['1', 'user.'],
  ['4', 'trusted.'],
  ['6', 'security.'],
]);
const acls: ReadonlyMap<string, string> = new Map([
  ['2', 'system.posix_acl_access'],
  ['3', 'system.posix_acl_default'],
]);

const tarTypes: ReadonlyMap<number, TarHeader['type']> = new Map([
  [fileKind.regular, 'file'],
  [fileKind.directory, 'directory'],
  [fileKind.symlink, 'symlink'],
  [fileKind.characterDevice, 'character'],
  [fileKind.blockDevice, 'block'],
  [fileKind.fifo, 'fifo'],
]);

/** How a layer is made. */
export interface LayerTarOptions {
  /** Most bytes of all its files together. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal;
}

/**
 * The files that differ between two disks as a tar: what is new or changed as a whole, what is gone as whiteouts. Sockets are
 * left out, as every tar does. Both disks must come from one `openBoth`. Throws what `diffDisks` throws, `resource_exhausted`
 * for more than `maxBytes`, `unsupported` for a file whose name would be read as a whiteout.
 */
export async function* changedLayer(
  from: NamedDisk,
  to: NamedDisk,
  { maxBytes, signal }: LayerTarOptions,
): AsyncGenerator<Buffer> {
  const differences = await findChanges(from.chain, to.chain, signal);
  const one = await FileSystem.open(from.chain, { what: from.what, differences, signal });
  const other = await FileSystem.open(to.chain, { what: to.what, differences, signal, beside: one });
  const writer = new LayerWriter(other, maxBytes);
  /** A directory that is none any more: what was in it went with it. */
  let gone: string | undefined;
  for await (const { path, change, inode } of fileChanges(one, other, differences, undefined)) {
    if (gone !== undefined && path.startsWith(gone)) continue;
    const isGone = inode === undefined || change.kind === 'type';
    if (isGone && change.typeBefore === 'directory') gone = `${path}/`;
    if (inode === undefined) yield writer.whiteout(path);
    else yield* writer.file(path, inode);
  }
  yield Buffer.from(tarEnd);
}

class LayerWriter {
  readonly #files: FileSystem;
  readonly #maxBytes: number;
  /** First names of files with several, by inode. */
  readonly #names = new Map<number, string>();
  #bytes = 0;

  constructor(files: FileSystem, maxBytes: number) {
    this.#files = files;
    this.#maxBytes = maxBytes;
  }

  whiteout(path: string): Buffer {
    const at = path.lastIndexOf('/') + 1;
    const name = `${path.slice(0, at)}${whiteout}${path.slice(at)}`;
    return tarHeader({ type: 'file', name, mode: 0o644, uid: 0, gid: 0, modifiedSeconds: 0 });
  }

  async *file(path: string, inode: Inode): AsyncGenerator<Buffer> {
    const type = tarTypes.get(inode.kind);
    if (type === undefined) return;
    if (inode.isEncrypted) throw notUnderstood(this.#files.what, ['encrypted files']);
    if (path.slice(path.lastIndexOf('/') + 1).startsWith(whiteout)) throw looksGone(path);
    const header = await this.#header(path, type, inode);
    const first = this.#names.get(inode.number);
    if (first !== undefined) {
      yield tarHeader({ ...header, type: 'link', linkName: first, size: 0 });
      return;
    }
    if (type !== 'directory' && inode.links > 1 && this.#names.size < maxLinks) {
      this.#names.set(inode.number, header.name);
    }
    yield tarHeader(header);
    if (type !== 'file' || inode.size === 0) return;
    this.#bytes += inode.size;
    if (this.#bytes > this.#maxBytes) {
      throw tooMuch(this.#files.what, `more than ${this.#maxBytes} bytes of changed files`);
    }
    yield* this.#content(inode);
    yield Buffer.from(tarPadding(inode.size));
  }

  async #header(path: string, type: TarHeader['type'], inode: Inode): Promise<TarHeader> {
    const isDevice = type === 'character' || type === 'block';
    return {
      type,
      name: type === 'directory' ? `${path || '.'}/` : path,
      mode: inode.mode & 0o7777,
      uid: inode.uid,
      gid: inode.gid,
      size: type === 'file' ? inode.size : 0,
      modifiedSeconds: Math.trunc(Number(inode.modifiedAt)),
      attributes: attributesOf(await this.#files.attributes(inode)),
      ...(type === 'symlink' && { linkName: (await this.#files.target(inode)).toString('latin1') }),
      ...(isDevice && { device: deviceOf(inode) }),
    };
  }

  async *#content(inode: Inode): AsyncGenerator<Buffer> {
    if (inode.isInline) {
      yield await this.#files.wholeContent(inode);
      return;
    }
    const { blockSize } = this.#files.layout;
    const runs = await this.#files.runs(inode);
    let at = 0;
    for (let i = 0; i < runs.length && at < inode.size; i += 3) {
      const start = Math.min(inode.size, (runs[i] ?? 0) * blockSize);
      const end = Math.min(inode.size, ((runs[i] ?? 0) + (runs[i + 2] ?? 0)) * blockSize);
      yield* this.#zeros(start - at);
      at = Math.max(at, start);
      const place = (runs[i + 1] ?? 0) * blockSize - start;
      while (at < end) {
        const piece = Buffer.allocUnsafe(Math.min(pieceBytes, end - at));
        await this.#files.blocks.into(piece, place + at);
        yield piece;
        at += piece.length;
        await this.#files.step();
      }
    }
    yield* this.#zeros(inode.size - at);
  }

  async *#zeros(count: number): AsyncGenerator<Buffer> {
    for (let left = count; left > 0; left -= pieceBytes) {
      yield Buffer.alloc(Math.min(left, pieceBytes));
      await this.#files.step();
    }
  }
}

function attributesOf(found: Attributes): ReadonlyMap<string, Buffer> {
  const known = new Map<string, Buffer>();
  for (const [key, value] of found) {
    const dot = key.indexOf('.');
    const space = key.slice(0, dot);
    const prefix = nameSpaces.get(space);
    const acl = acls.get(space);
    if (prefix !== undefined) known.set(prefix + key.slice(dot + 1), value);
    else if (acl !== undefined) known.set(acl, decodeAcl(value));
  }
  return known;
}

/** A POSIX ACL in the form of system calls and tar (version 2, always an id) from the one that ext4 stores. */
function decodeAcl(value: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from([2, 0, 0, 0])];
  for (let at = 4; at + 4 <= value.length; ) {
    const tag = value.readUInt16LE(at);
    const isNamed = (tag === 2 || tag === 8) && at + 8 <= value.length;
    parts.push(value.subarray(at, at + (isNamed ? 8 : 4)));
    if (!isNamed) parts.push(Buffer.alloc(4, 0xff));
    at += isNamed ? 8 : 4;
  }
  return Buffer.concat(parts);
}

/** The number of a device as Linux keeps it: the short form in the first word, else the long one in the second. */
function deviceOf(inode: Inode): readonly [major: number, minor: number] {
  const short = inode.content.readUInt32LE(0);
  if (short !== 0) return [(short >>> 8) & 0xff, short & 0xff];
  const long = inode.content.readUInt32LE(4);
  return [(long >>> 8) & 0xfff, (long & 0xff) | ((long >>> 12) & 0xfff00)];
}

function looksGone(path: string): CryoboxError {
  return new CryoboxError(
    'unsupported',
    `/${path} cannot be in a layer: its name says that a file was removed`,
    {
      hint: 'Remove it in the step that makes it.',
    },
  );
}
