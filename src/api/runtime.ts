import type { Box, BoxInfo } from './box.js';
import type { CreateOptions } from './box-options.js';
import type { ByteSource, CallOptions, ProgressOptions } from './common.js';
import type { Images } from './images.js';
import type { BoxStatus } from './operations.js';
import type { ImportOptions } from './snapshots.js';

/** Counters of a runtime since its home was made. */
export interface RuntimeMetrics {
  readonly boxesCreatedTotal: number;
  readonly boxesFailedTotal: number;
  readonly boxesStoppedTotal: number;
  readonly runningBoxes: number;
  readonly commandsExecutedTotal: number;
  readonly execErrorsTotal: number;
}

/** A named machine state new boxes start from. */
export interface TemplateInfo {
  readonly name: string;
  readonly type: 'memory';
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskSizeGb: number;
  readonly image: string;
  readonly sizeBytes: number;
  readonly createdAt: Date;
}

/** The templates of a runtime. */
export interface Templates {
  /** From a running or paused box. A missing name is generated. `already_exists` unless `overwrite`. */
  create(
    options: CallOptions & { readonly box: string; readonly name?: string; readonly overwrite?: boolean },
  ): Promise<TemplateInfo>;
  list(options?: CallOptions & { readonly type?: 'memory' }): Promise<TemplateInfo[]>;
  get(name: string, options?: CallOptions): Promise<TemplateInfo | null>;
  remove(name: string, options?: CallOptions): Promise<void>;
}

/** A persistent disk that outlives boxes. */
export interface VolumeInfo {
  readonly id: string;
  readonly name: string;
  readonly createdAt: Date;
  /** Size of the disk. */
  readonly sizeBytes: number;
  /** What it takes on the engine's host. */
  readonly usedBytes: number;
  /** Ids of the boxes that have it, whatever their state. */
  readonly boxes: readonly string[];
}

/** The volumes of a runtime. */
export interface Volumes {
  /**
   * Makes an empty one. `name`: 2 to 128 of `[a-zA-Z0-9._-]`, first a letter or digit, default its id; `sizeGb`: 1 to
   * 1024 (GiB), default 10, of which only what is written takes room. `already_exists`.
   */
  create(options?: CallOptions & { readonly name?: string; readonly sizeGb?: number }): Promise<VolumeInfo>;
  /** Oldest first. */
  list(options?: CallOptions): Promise<VolumeInfo[]>;
  get(nameOrId: string, options?: CallOptions): Promise<VolumeInfo | null>;
  /** `invalid_state` while a box has it, in whatever state. `force`: it is no error when there is none. */
  remove(nameOrId: string, options?: CallOptions & { readonly force?: boolean }): Promise<void>;
}

/** A change of a box, image or template. */
export interface RuntimeEvent {
  readonly at: Date;
  readonly kind: 'box' | 'image' | 'template' | 'volume';
  readonly id: string;
  /** Such as `created`, `running`, `paused`, `removed`. */
  readonly change: string;
}

/** What a garbage collection deleted, or would. */
export interface GcResult {
  readonly removed: readonly { readonly path: string; readonly bytes: number }[];
  readonly freedBytes: number;
}

/** What a verification found. */
export interface VerifyResult {
  readonly ok: boolean;
  readonly checkedLayers: number;
  readonly problems: readonly { readonly what: string; readonly problem: string }[];
}

/** One requirement of the host, and whether it is met. */
export interface DoctorCheck {
  readonly name: string;
  readonly status: 'ok' | 'warning' | 'failed';
  readonly detail: string;
  /** What to do; absent when ok. */
  readonly hint?: string;
}

/**
 * Everything Cryobox does. The engine in this process, the engine of another process and a server far away all
 * implement it.
 */
export interface Runtime extends AsyncDisposable {
  readonly images: Images;
  readonly templates: Templates;
  readonly volumes: Volumes;
  /** Makes a box and starts it. */
  create(options: CreateOptions): Promise<Box>;
  /** The box of that name, or a new one. */
  getOrCreate(name: string, options: Omit<CreateOptions, 'name'>): Promise<{ box: Box; created: boolean }>;
  /** By id, name or unique beginning of an id; null when there is none. */
  get(idOrName: string, options?: CallOptions): Promise<Box | null>;
  /** Oldest first. */
  list(options?: CallOptions & { readonly status?: BoxStatus }): Promise<BoxInfo[]>;
  /** Removes a box by id or name; `not_found` when there is none. */
  remove(idOrName: string, options?: CallOptions & { readonly force?: boolean }): Promise<void>;
  /** Makes a box from an archive: a path on the caller's host, or a stream. */
  import(archive: string | ByteSource, options?: ImportOptions): Promise<Box>;
  metrics(options?: CallOptions): Promise<RuntimeMetrics>;
  events(options?: CallOptions): AsyncIterable<RuntimeEvent>;
  gc(options?: CallOptions & { readonly dryRun?: boolean }): Promise<GcResult>;
  verify(options?: ProgressOptions): Promise<VerifyResult>;
  /** Lets go of the runtime. Boxes it made without `detach` are stopped; all others go on. */
  close(): Promise<void>;
}
