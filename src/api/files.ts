import type { ByteInput, ByteSource, CallOptions, ProgressOptions } from './common.js';
import type { FileWatch, WatchOptions } from './file-watch.js';

/** How a tree is copied. */
export interface CopyOptions extends ProgressOptions {
  /** Whether files that are there are replaced; false fails with `already_exists`. @default true */
  readonly overwrite?: boolean;
  /** Copies what symbolic links point at instead of the links. @default false */
  readonly followSymlinks?: boolean;
}

/** How a tree is packed. */
export interface PackOptions extends CallOptions {
  /** Packs what symbolic links point at instead of the links. @default false */
  readonly followSymlinks?: boolean;
  /** Whether a directory comes with its name, as `d/...`, instead of what is in it alone, as `./...`. @default false */
  readonly named?: boolean;
}

/** Which bytes of a file are read. */
export interface ReadOptions extends CallOptions {
  /** Of the first byte. Beyond the end there is nothing. @default 0 */
  readonly offsetBytes?: number | undefined;
  /** How many at most. @default all that follow */
  readonly lengthBytes?: number | undefined;
}

/** What a copy moved. */
export interface CopyResult {
  readonly entries: number;
  readonly bytes: number;
}

/** Whose something new in a box is, by numbers. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** One file, directory or link in a box. */
export interface FileInfo {
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly sizeBytes: number;
  /** Permission bits, such as 0o644. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedAt: Date;
  readonly linkTarget?: string;
}

/** Files of a box. Paths are absolute. All of it needs the box to run, or starts it. */
export interface Files {
  /** Copies a file or tree from the host; owner, mode and symbolic links are kept. */
  copyIn(hostPath: string, guestPath: string, options?: CopyOptions): Promise<CopyResult>;
  /** Copies a file or tree to the host. */
  copyOut(guestPath: string, hostPath: string, options?: CopyOptions): Promise<CopyResult>;
  /**
   * Unpacks a tar stream. One regular file and a path that is no directory: the file is written to that path, as by
   * {@link Files.write} but with the owner and mode of the archive; everything else goes into the directory. Files and
   * links that are there are replaced; a device, FIFO or socket never is (`unsupported`, a file is written to a device),
   * nor a file by a directory (`already_exists`). When it fails or is cancelled, entries that were whole stay.
   */
  unpack(guestPath: string, tar: ByteInput, options?: CopyOptions): Promise<CopyResult>;
  /** A file or tree as a tar stream. */
  pack(guestPath: string, options?: PackOptions): Promise<ByteSource>;
  /**
   * The whole file, or what a device or a file of the kernel holds now; `unsupported` for a FIFO or socket;
   * `payload_too_large` over 64 MiB, use {@link Files.readStream} or copyOut then.
   */
  read(path: string, options?: CallOptions): Promise<Buffer>;
  /** The bytes of a file of any length, or a part of them, of what {@link Files.read} reads. */
  readStream(path: string, options?: ReadOptions): Promise<ByteSource>;
  /**
   * Writes a whole file, making parent directories. Readers in the box see the old content or the new, and a write that
   * fails or is cancelled leaves the old; owner and, without `mode`, the mode of a file that is there are kept. Links are
   * followed, also to what is not there yet. `owner` is who the file belongs to afterwards, new parent directories stay root's. A file with several names keeps them, one that is mounted keeps its place:
   * both get the content in place once it is there as a whole. A device, a FIFO with a reader and a file such as those
   * of `/proc/sys` are written to directly. Fails with `unsupported` for a FIFO without a reader or a socket,
   * `invalid_argument` for a directory or content of no kind of {@link ByteInput}, `disk_full`, and with what the content
   * fails with.
   */
  write(
    path: string,
    content: ByteInput,
    options?: CallOptions & { readonly mode?: number; readonly owner?: FileOwner },
  ): Promise<void>;
  /** What is in a directory, by name; `not_found`, `invalid_argument` when it is no directory. */
  list(path: string, options?: CallOptions): Promise<FileInfo[]>;
  /** Null when there is none. */
  stat(path: string, options?: CallOptions): Promise<FileInfo | null>;
  /** Makes a directory and its parents, or leaves one that is there; `owner` is whose it is then. @default root, if new */
  makeDirectory(path: string, options?: CallOptions & { readonly owner?: FileOwner }): Promise<void>;
  /** Removes a file or an empty directory; `recursive`: with what is in it. `not_found`. @default recursive false */
  remove(path: string, options?: CallOptions & { readonly recursive?: boolean }): Promise<void>;
  /** `already_exists` when something is at `to`, unless `overwrite`. */
  rename(from: string, to: string, options?: CallOptions & { readonly overwrite?: boolean }): Promise<void>;
  /**
   * Watches a directory: what happens in it from the answer on is told, in its order. A link is followed for `path`, not
   * below it. The box counts as used for as long as it is watched; a pause or a stop ends the watch, a snapshot or a fork does
   * not. Fails with `not_found`, with `invalid_argument` for what is no directory, and with `resource_exhausted`
   * for more than 32 watches of a box or 8,192 directories in one.
   */
  watch(path: string, options?: WatchOptions): Promise<FileWatch>;
}
