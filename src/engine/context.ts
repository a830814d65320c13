import type { BoxActivity } from '../api/index.js';
import type { Logger } from '../base/log.js';
import type { KeyedMutex } from '../base/mutex.js';
import type { QemuBinary } from '../machine/index.js';
import type { BoxRow, Database, GroupCommit } from '../store/index.js';
import type { GuestAssets } from './assets.js';
import type { BoxInfos } from './boxes/infos.js';
import type { Counters } from './counters.js';
import type { LayerHasher } from './disks/hasher.js';
import type { Changes } from './events.js';
import type { GarbageCollector } from './gc.js';
import type { HomePaths } from './home.js';
import type { ImageStore } from './images/store.js';
import type { LayerFiles } from './layer-files.js';
import type { LiveBoxes } from './live.js';
import type { Goldens } from './machines/golden.js';
import type { MachinePool } from './machines/pool.js';
import type { PageServers } from './memory/page-servers.js';
import type { Scratch } from './scratch.js';
import type { IdleTimers } from './timers.js';
import type { Claim } from './volumes/attachment.js';

/** Keeps the chains of disks short. */
export interface ChainKeeper {
  /** Looks at a box's chains in a while, in the background. */
  consider(boxId: string): void;
  /** Makes room for one more layer, at once if there is none. Called under the box's lock. Throws `disk_full`. */
  makeRoom(row: BoxRow): Promise<void>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

/** Keeps memories near to what can be mapped. */
export interface MemoryKeeper {
  /** Merges a memory in the background, if it is deep or far from what can be mapped. */
  consider(memoryId: string): void;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

/** Sees to it that a volume has one writer, or readers only. */
export interface VolumeKeeper {
  /** Takes the volumes of a box for the machine that it is about to get. Throws `conflict`, naming who has one. */
  claim(row: BoxRow): Promise<Claim>;
}

/** What every part of an engine shares. */
export interface EngineContext {
  readonly paths: HomePaths;
  readonly db: Database;
  /** Changes that must be durable when they return. */
  readonly commits: GroupCommit;
  readonly layers: LayerFiles;
  readonly qemu: QemuBinary;
  readonly assets: GuestAssets;
  readonly goldens: Goldens;
  readonly pool: MachinePool;
  readonly pageServers: PageServers;
  /** Boxes whose machine runs now. */
  readonly live: LiveBoxes;
  readonly infos: BoxInfos;
  /** What is under way on which box; in memory only, so that a crash leaves none behind. */
  readonly activities: Map<string, BoxActivity>;
  /** Serialises what changes one box. */
  readonly boxLocks: KeyedMutex;
  readonly events: Changes;
  readonly gc: GarbageCollector;
  readonly scratch: Scratch;
  readonly flattener: ChainKeeper;
  readonly hasher: LayerHasher;
  readonly merger: MemoryKeeper;
  readonly images: ImageStore;
  /** Who may have which volume. */
  readonly volumes: VolumeKeeper;
  readonly timers: IdleTimers;
  readonly counters: Counters;
  readonly logger: Logger;
  /** Aborted when the engine closes. */
  readonly closing: AbortController;
}
