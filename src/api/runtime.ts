import type { Box, BoxInfo } from './box.js';
import type { CreateOptions } from './box-options.js';
import type { ByteInput, CallOptions, ProgressOptions } from './common.js';
import type { Images } from './images.js';
import type { ResourceUse } from './limits.js';
import type { BoxStatus } from './operations.js';
import type { ImportOptions } from './snapshots.js';
import type { TreeNode } from './tree.js';

/** Counters of a runtime since its home was made. */
export interface RuntimeMetrics {
  readonly boxesCreatedTotal: number;
  readonly boxesFailedTotal: number;
  readonly boxesStoppedTotal: number;
  readonly runningBoxes: number;
  readonly commandsExecutedTotal: number;
  readonly execErrorsTotal: number;
  /** Machines that wait warmed for the next box, of the whole home; 0 for whom it does not belong to. */
  readonly hotMachines: number;
  /** What is used and may be used; a server of an earlier release says nothing of it. */
  readonly uses: readonly ResourceUse[];
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
  readonly labels: Readonly<Record<string, string>>;
}

/** How a template is made. */
export interface TemplateOptions extends CallOptions {
  /** Id or name of a box that runs or is paused. */
  readonly box: string;
  /** @default a new one */
  readonly name?: string;
  /** Replaces a template of that name. @default false */
  readonly overwrite?: boolean;
  /** As those of boxes; they are its own, and boxes made from it have none of them. @default none */
  readonly labels?: Readonly<Record<string, string>>;
}

/** The templates of a runtime. */
export interface Templates {
  /** From a running or paused box. A missing name is generated. `already_exists` unless `overwrite`. */
  create(options: TemplateOptions): Promise<TemplateInfo>;
  /** Oldest first. `type` says which kind; there is one. */
  list(options?: CallOptions & { readonly type?: 'memory' }): Promise<TemplateInfo[]>;
  /** Null when there is none. */
  get(name: string, options?: CallOptions): Promise<TemplateInfo | null>;
  /** Boxes made from it keep what they need of it. `not_found`. */
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
  /** Null when there is none. */
  get(nameOrId: string, options?: CallOptions): Promise<VolumeInfo | null>;
  /** `invalid_state` while a box has it, in whatever state. `force`: it is no error when there is none. */
  remove(nameOrId: string, options?: CallOptions & { readonly force?: boolean }): Promise<void>;
}

/** Which boxes are listed. */
export interface BoxListOptions extends CallOptions {
  /** Only those in this state. @default all */
  readonly status?: BoxStatus;
  /** Id of a box: only those that come after it, such as the last one of the page before. */
  readonly after?: string;
  /** Most boxes of the answer, 1 to 1000. @default all */
  readonly limit?: number;
}

/** Which box is brought from another home. */
export interface AdoptOptions extends CallOptions {
  /** Its id, or the name that it had. */
  readonly box: string;
  /** Its name here. @default the one that it had */
  readonly name?: string | undefined;
}

/** A change of a box, image or template. */
export interface RuntimeEvent {
  readonly at: Date;
  readonly kind: 'box' | 'image' | 'template' | 'volume';
  readonly id: string;
  /** Such as `created`, `running`, `paused`, `removed`. */
  readonly change: string;
  /** Its place in the engine's sequence of events, for {@link EventsOptions.since}. Text without a meaning of its own. */
  readonly position: string;
}

/** Which events. */
export interface EventsOptions extends CallOptions {
  /**
   * The position of an event: those after it come first, then new ones. An engine keeps its latest 10,000 events for at
   * most an hour, and none across its own restart; `position_gone` when some after the position are missing.
   * @default only events from now on
   */
  readonly since?: string | undefined;
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
  /** Newest first, all of them or a page. Throws `invalid_argument` when there is no box `after`. */
  list(options?: BoxListOptions): Promise<BoxInfo[]>;
  /** Removes a box by id or name; `not_found` when there is none. */
  remove(idOrName: string, options?: CallOptions & { readonly force?: boolean }): Promise<void>;
  /** Makes a box from an archive: a path on the caller's host, or a stream. */
  import(archive: string | ByteInput, options?: ImportOptions): Promise<Box>;
  /**
   * Brings a box that its home has released into this one, with its id and its snapshots. `store`: what that home is
   * replicated to, as this engine reaches it. Only one home ever gets it; asking again is no error for the one that did.
   * Its memory is believed: name no store that you trust less than a program. `not_found`, `conflict` when another home
   * has it, `already_exists` for its name, `integrity`, `resource_exhausted`, `upstream_unavailable`.
   */
  adopt(store: string, options: AdoptOptions): Promise<Box>;
  /** What has been done since the home was made, and what is there now. */
  metrics(options?: CallOptions): Promise<RuntimeMetrics>;
  /** All states, and what each descends from: images, templates, boxes and snapshots. */
  tree(options?: CallOptions): Promise<TreeNode[]>;
  /**
   * Changes of boxes, images, templates and volumes, until the signal aborts or the runtime is closed. A client continues
   * by itself after a broken connection. Fails with `position_gone` when it has missed events.
   */
  events(options?: EventsOptions): AsyncIterable<RuntimeEvent>;
  /** Deletes files that nothing needs any more; this also happens by itself. @default dryRun false */
  gc(options?: CallOptions & { readonly dryRun?: boolean }): Promise<GcResult>;
  /** Reads every layer of the home and compares it with its sums; what is damaged is in `problems`, and is no error. */
  verify(options?: ProgressOptions): Promise<VerifyResult>;
  /** Lets go of the runtime. Boxes it made without `detach` are stopped; all others go on. */
  close(): Promise<void>;
}
