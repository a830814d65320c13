import type { ProgressOptions, RepeatableOptions } from './common.js';
import type { PublishOptions } from './ports.js';
import type { PreviewAccess } from './previews.js';
import type { SecretOptions } from './secrets.js';

/** Limits and defaults of a box's shape. */
export const boxLimits = {
  cpus: { min: 1, max: 32, default: 1 },
  memoryMiB: { min: 128, max: 65_536, default: 512 },
  diskSizeGb: { min: 1, max: 1024, default: 10 },
  volumeSizeGb: { min: 1, max: 1024, default: 10 },
  /** Volumes of a box: its machine has as many slots. */
  volumes: 4,
  /** Published ports of a box. */
  ports: 32,
  /** v1 contract, section 1.5. */
  nameLength: 128,
  labels: 64,
  /** Least and most of {@link DiskLimits}: with less a box could not read what it needs to come up. */
  diskBytesPerSecond: { min: 65_536, max: 1_000_000_000_000 },
  diskOperationsPerSecond: { min: 10, max: 1_000_000_000 },
  networkBytesPerSecond: { min: 1_024, max: 1_000_000_000_000 },
  /** Rules of each list of a box's network. */
  networkRules: 256,
  secrets: 32,
  labelLength: 1024,
  /** Boxes of one answer that is asked for in pages. */
  listed: 1000,
  /** Seconds; a year. */
  timerSeconds: 31_536_000,
} as const;

/**
 * Which way a box may open connections. With one of the lists, everything that the box sends is judged outside of it, by a
 * gateway; see docs/networking.md.
 */
export interface NetworkOptions {
  /** `enabled`: any public address and DNS, never the host's loopback or link-local addresses. @default 'enabled' */
  readonly outbound?: 'enabled' | 'disabled';
  /**
   * Only these are reached: `api.example.com`, `*.example.com` (any depth, not `example.com` itself), `192.0.2.1`,
   * `198.51.100.0/24`, each with or without `:443` or `:8000-8010`; `*`: all. At most 256. @default none: no list
   */
  readonly allowNet?: readonly string[];
  /** Addresses and ranges that are not reached; `allowNet` wins. At most 256. @default none */
  readonly denyNet?: readonly string[];
  /** What its connections and datagrams carry at most, names and published ports aside. @default none: as much as goes */
  readonly rateLimit?: NetworkRateLimit;
}

/** Bytes a second that a box sends and gets, 1,024 to 10^12; absent: as many as go. */
export interface NetworkRateLimit {
  readonly sendBytesPerSecond?: number;
  readonly receiveBytesPerSecond?: number;
}

/** {@link NetworkOptions} with their defaults. */
export interface NetworkSettings extends Required<Omit<NetworkOptions, 'rateLimit'>> {
  /** Absent: none. */
  readonly rateLimit?: NetworkRateLimit;
}

/** A refusal of a box's gateway; the same one again is counted, not repeated. */
export interface NetworkDenial {
  /** Grows with every refusal. */
  readonly seq: number;
  /** When it was refused last. */
  readonly at: Date;
  /**
   * Such as `name` (a name that is not allowed), `address`, `floor` (what no box reaches), `sni`, `no_sni`, `host`, `http`,
   * `udp`, `disabled`; docs/networking.md has all.
   */
  readonly reason: string;
  /** `tcp`, `udp`, `dns` or `ip`. */
  readonly protocol: string;
  readonly name: string | null;
  readonly address: string | null;
  /** 0: none. */
  readonly port: number;
  readonly count: number;
}

/** The network of a box, and what its gateway has done since it started. */
export interface NetworkInfo extends NetworkSettings {
  /**
   * Who reaches its ports by the address of a tunnel (docs/networking.md): `private`, who has an address that was asked for with
   * a key; `public`, everybody who knows the box's id.
   */
  readonly inbound: PreviewAccess;
  /** Null where there is no gateway: the box has no lists, or does not run. */
  readonly traffic: NetworkTraffic | null;
}

/** What went through a gateway. */
export interface NetworkTraffic {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly connectionsOpened: number;
  readonly connectionsOpen: number;
  /** Connections that were allowed, and that the host could not make. */
  readonly connectionsFailed: number;
  /** Refusals by reason. */
  readonly refused: Readonly<Record<string, number>>;
  /** The last 256 different ones, oldest first. */
  readonly denials: readonly NetworkDenial[];
}

/**
 * How fast a box may use its disks, its volumes among them, all together. What is absent is not limited. What the guest has
 * in its page cache is not read again, and what it writes counts when it is written back.
 */
export interface DiskLimits {
  /** 65,536 to 1,000,000,000,000. */
  readonly readBytesPerSecond?: number;
  /** 65,536 to 1,000,000,000,000. */
  readonly writeBytesPerSecond?: number;
  /** Requests of the guest's kernel, 10 to 1,000,000,000. */
  readonly readOperationsPerSecond?: number;
  /** Requests of the guest's kernel, 10 to 1,000,000,000. */
  readonly writeOperationsPerSecond?: number;
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

/** What becomes of a box at the end of its lifetime. */
export type LifetimeAction = 'stop' | 'pause' | 'remove';

/** What a new box is made of. Exactly one of `image` and `template`. */
export interface CreateOptions extends ProgressOptions, RepeatableOptions {
  /** Reference of an image that is here, or can be pulled. */
  readonly image?: string;
  /**
   * Such as `linux/arm64`: of the image that is pulled, and of the machine; another processor than the host's is emulated.
   * `unsupported` when the image here is made for another one. @default the image's; of one that is pulled, the host's
   */
  readonly platform?: string;
  /** Name of a template; cpus and memory come from it. */
  readonly template?: string;
  /** Unique; 1 to 128 of `[a-zA-Z0-9._-]`, first a letter or digit. @default none: the box has only its id */
  readonly name?: string;
  /** Host name: 1 to 64 letters, digits, dots and hyphens. @default its name, else its id, in the letters it may have */
  readonly hostname?: string;
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
  /**
   * Entrypoint of the main command, which runs at every start when this, `cmd` or `tty` is given: it is the execution
   * {@link mainExecution}. Its output is kept for {@link Box.mainOutput}. Without a main command a box idles.
   * @default the image's
   */
  readonly entrypoint?: readonly string[];
  /** Command, or arguments of the entrypoint. @default the image's; none when an entrypoint is given */
  readonly cmd?: readonly string[];
  /** Runs the main command on a terminal. @default false */
  readonly tty?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  /** Seconds without any activity after which the box stops; 0: never. @default 0 */
  readonly autoStop?: number;
  /** What autoStop does. @default 'stop' */
  readonly autoStopAction?: 'stop' | 'pause';
  /** Seconds without any activity after which the box is removed; 0: never; must exceed `autoStop`. @default 0 */
  readonly autoDelete?: number;
  /**
   * Seconds that each run of the box lasts at most, used or not, from its start or resume on; 0: without end. It ends by
   * itself then, as {@link CreateOptions.lifetimeAction} says. Clones and forks have the same. @default 0
   */
  readonly lifetime?: number;
  /** What becomes of the box at the end of its lifetime. @default 'stop' */
  readonly lifetimeAction?: LifetimeAction;
  /** Whether exec and copy start or resume the box. @default true */
  readonly autoResume?: boolean;
  /**
   * Whether the box outlives the runtime that made it. False: closing that runtime stops the box, and disposing of
   * the handle that `create` gave removes it. A box made over REST always outlives the call. @default false
   */
  readonly detach?: boolean;
  readonly network?: NetworkOptions;
  /** @default none: as fast as the host's disk is */
  readonly diskLimits?: DiskLimits;
  /**
   * Secrets that the box uses and never has, at most 32, by the names of the environment variables that hold their
   * placeholders (docs/networking.md). A box made from a template has those that are given here only.
   */
  readonly secrets?: Readonly<Record<string, SecretOptions>>;
  readonly capabilities?: CapabilityOptions;
  /** At most 4. Mounted whenever the box runs; `conflict` while another box that runs or is paused has one of them. */
  readonly volumes?: readonly VolumeMount[];
  /** At most 32: {@link BoxPorts}. `already_exists`, before anything is made, when a port of the host is in use. */
  readonly ports?: readonly PublishOptions[];
}

/** How long each step of the last start took, in milliseconds. */
export type StageTimes = Readonly<Record<string, number>>;
