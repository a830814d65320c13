import type { ByteSource, CallOptions, ProgressOptions } from './common.js';

/** How a tree is copied. */
export interface CopyOptions extends ProgressOptions {
  /** Whether files that are there are replaced; false fails with `already_exists`. @default true */
  readonly overwrite?: boolean;
  /** Copies what symbolic links point at instead of the links. @default false */
  readonly followSymlinks?: boolean;
}

/** What a copy moved. */
export interface CopyResult {
  readonly entries: number;
  readonly bytes: number;
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
   * Unpacks a tar stream. One regular file and a path that is no directory: the file is written to that path;
   * everything else goes into the directory.
   */
  unpack(guestPath: string, tar: ByteSource, options?: CopyOptions): Promise<CopyResult>;
  /** A file or tree as a tar stream. */
  pack(guestPath: string, options?: CallOptions & { readonly followSymlinks?: boolean }): Promise<ByteSource>;
  /** The whole file; `payload_too_large` over 64 MiB, use {@link Files.readStream} or copyOut then. */
  read(path: string, options?: CallOptions): Promise<Buffer>;
  /** The bytes of a file of any length. */
  readStream(path: string, options?: CallOptions): Promise<ByteSource>;
  /** Writes a whole file, making parent directories. */
  write(
    path: string,
    content: string | Uint8Array | ByteSource,
    options?: CallOptions & { readonly mode?: number },
  ): Promise<void>;
  list(path: string, options?: CallOptions): Promise<FileInfo[]>;
  /** Null when there is none. */
  stat(path: string, options?: CallOptions): Promise<FileInfo | null>;
  makeDirectory(path: string, options?: CallOptions): Promise<void>;
  remove(path: string, options?: CallOptions & { readonly recursive?: boolean }): Promise<void>;
  rename(from: string, to: string, options?: CallOptions): Promise<void>;
}
