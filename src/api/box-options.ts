import type { ProgressOptions, RepeatableOptions } from './common.js';

/** Limits and defaults of a box's shape. */
export const boxLimits = {
  cpus: { min: 1, max: 32, default: 1 },
  memoryMiB: { min: 128, max: 65_536, default: 512 },
  diskSizeGb: { min: 1, max: 1024, default: 10 },
  volumeSizeGb: { min: 1, max: 1024, default: 10 },
  /** Volumes of a box: its machine has as many slots. */
  volumes: 4,
  /** v1 contract, section 1.5. */
  nameLength: 128,
  labels: 64,
  labelLength: 1024,
  /** Seconds; a year. */
  timerSeconds: 31_536_000,
} as const;

/** Which way a box may open connections. */
export interface NetworkOptions {
  /** `enabled`: any public address and DNS, never the host's loopback or link-local addresses. @default 'enabled' */
  readonly outbound?: 'enabled' | 'disabled';
}

/** Linux capabilities of the box's processes, relative to the full set root has in a machine of its own. */
export interface CapabilityOptions {
  readonly add?: readonly string[];
  readonly drop?: readonly string[];
}

/** A persistent disk mounted into a box. Directories of the host are not mounted: `unsupported`. */
export interface VolumeMount {
  /** Name or id of the volume; one that does not exist is made, unless `readOnly`, and belongs to root. */
  readonly volume: string;
  /** Absolute path in the box, made when it is not there; not `/`, `/proc`, `/sys`, `/dev`, `/run` or in them. */
  readonly guestPath: string;
  /** Many boxes may have a volume at once when all of them only read it. @default false */
  readonly readOnly?: boolean;
}

/** What a new box is made of. Exactly one of `image` and `template`. */
export interface CreateOptions extends ProgressOptions, RepeatableOptions {
  /** Reference of an image that is here, or can be pulled. */
  readonly image?: string;
  /** Name of a template; cpus and memory come from it. */
  readonly template?: string;
  /** Unique; 1 to 128 of `[a-zA-Z0-9._-]`, first a letter or digit. @default none: the box has only its id */
  readonly name?: string;
  /** 1 to 32. @default 1 */
  readonly cpus?: number;
  /** 128 to 65536. @default 512 */
  readonly memoryMiB?: number;
  /** Size of the box's file system, 1 to 1024 (GiB). @default 10 */
  readonly diskSizeGb?: number;
  /** Added to the image's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** @default the image's, else `/` */
  readonly workingDir?: string;
  /** Name, uid, or `user:group`. @default the image's, else root */
  readonly user?: string;
  /** Replaces the image's entrypoint. */
  readonly entrypoint?: readonly string[];
  /** Replaces the image's command. */
  readonly cmd?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Seconds without any activity after which the box stops; 0: never. @default 0 */
  readonly autoStop?: number;
  /** What autoStop does. @default 'stop' */
  readonly autoStopAction?: 'stop' | 'pause';
  /** Seconds without any activity after which the box is removed; 0: never; must exceed `autoStop`. @default 0 */
  readonly autoDelete?: number;
  /** Whether exec and copy start or resume the box. @default true */
  readonly autoResume?: boolean;
  /**
   * Whether the box outlives the runtime that made it. False: closing that runtime stops the box, and disposing of
   * the handle that `create` gave removes it. A box made over REST always outlives the call. @default false
   */
  readonly detach?: boolean;
  readonly network?: NetworkOptions;
  readonly capabilities?: CapabilityOptions;
  /** At most 4. Mounted whenever the box runs; `conflict` while another box that runs or is paused has one of them. */
  readonly volumes?: readonly VolumeMount[];
}

/** How long each step of the last start took, in milliseconds. */
export type StageTimes = Readonly<Record<string, number>>;
