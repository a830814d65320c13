import type { CallOptions, ProgressOptions, RepeatableOptions } from './common.js';

/** How consistent a snapshot's disks are. */
export type Consistency =
  /** File systems were frozen. */
  | 'frozen'
  /** As after a power cut: the journal is replayed. */
  | 'crash'
  /** The box was stopped. */
  | 'clean';

/** A named state of a box. */
export interface SnapshotInfo {
  readonly id: string;
  readonly boxId: string;
  readonly name: string;
  readonly createdAt: Date;
  /** Bytes of all its layers. */
  readonly sizeBytes: number;
  readonly guestDiskBytes: number;
  readonly containerDiskBytes: number;
  /** Bytes that removing it would free. */
  readonly exclusiveBytes: number;
  readonly hasMemory: boolean;
  /** Name of the snapshot it descends from, or null. */
  readonly parent: string | null;
  readonly consistency: Consistency;
}

/** How a snapshot is taken. */
export interface SnapshotCreateOptions extends CallOptions {
  /** Freezes the file systems of a running box meanwhile. @default true */
  readonly quiesce?: boolean;
  /** @default 30000 */
  readonly quiesceTimeoutMs?: number;
  /** When the freeze fails: stop the box and snapshot it (true), or fail (false). @default true */
  readonly stopOnQuiesceFail?: boolean;
  /** Takes the memory of a running or paused box too; it keeps running. @default false */
  readonly memory?: boolean;
}

/** A snapshot just taken. */
export interface SnapshotResult extends SnapshotInfo {
  /** How long the guest stood still, in milliseconds; 0 when it was not running. */
  readonly guestPauseMs: number;
}

/** The snapshots of one box. */
export interface Snapshots {
  /** `already_exists` when the name is taken; `invalid_argument` for a bad name (1 to 255 bytes, no leading dot, `/`, `\` or NUL). */
  create(name: string, options?: SnapshotCreateOptions): Promise<SnapshotResult>;
  /** Newest first. */
  list(options?: CallOptions): Promise<SnapshotInfo[]>;
  /** Null when there is none. */
  get(name: string, options?: CallOptions): Promise<SnapshotInfo | null>;
  /** Puts the disks back (stopped box), or with `live` the whole machine as it was (memory snapshot, any state). */
  restore(name: string, options?: CallOptions & { readonly live?: boolean }): Promise<void>;
  /** Any snapshot can be removed, whatever descends from it. `not_found` when there is none. */
  remove(name: string, options?: CallOptions): Promise<void>;
}

/** How a box is cloned. */
export interface CloneOptions extends CallOptions {
  /** Shares unchanged data; false copies everything. @default true */
  readonly cow?: boolean;
  /** A clone that does not come up is removed. @default false */
  readonly startAfterClone?: boolean;
  /** Name of the snapshot to clone. @default the box as it is */
  readonly fromSnapshot?: string;
}

/** How a box is exported. */
export interface ExportOptions extends ProgressOptions {
  /** zstd. @default true */
  readonly compress?: boolean;
  /** 1 to 19. @default 3 */
  readonly compressionLevel?: number;
  /** Name, image and options of the box; of its `env` only what comes from the image. @default true */
  readonly includeMetadata?: boolean;
  /**
   * The values of `env` that the box was given, in clear: whoever reads the archive has them. Without them the imported
   * box lacks these variables. Only with `includeMetadata`. @default false
   */
  readonly env?: boolean;
  /**
   * Memory of a running or paused box too, with everything its programs hold in it, passwords included: who imports it
   * gets a paused box that goes on with its processes. A running box goes on meanwhile. @default false
   */
  readonly memory?: boolean;
}

/** How an archive is taken in. */
export interface ImportOptions extends ProgressOptions, RepeatableOptions {
  /** @default none */
  readonly name?: string;
  /**
   * What becomes of the memory in an archive. True: the box is paused, and goes on with its processes; only for archives
   * from whom you trust as you trust a program, for the state of a machine can be made to attack QEMU. False: the disks
   * only, the box is stopped. @default refused with `invalid_argument` when the archive holds memory
   */
  readonly memory?: boolean;
  /**
   * Environment variables of the box on top of those in the archive, which leaves out the values that its box was given:
   * `BoxInfo.missingEnv` names those that still have none. As JSON at most 12 KiB. @default none
   */
  readonly env?: Readonly<Record<string, string>> | undefined;
}
