import type { RecordContext } from '../record/context.js';
import type { GarbageCollector } from './gc.js';
import type { LayerHasher } from './hasher.js';
import type { LayerFiles } from './layer-files.js';
import type { Scratch } from './scratch.js';

/** Keeps memories near to what can be mapped. */
export interface MemoryKeeper {
  /** Merges a memory in the background, if it is deep or far from what can be mapped. */
  consider(memoryId: string): void;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

/** What working with layers needs. */
export interface LayersContext extends RecordContext {
  readonly layers: LayerFiles;
  readonly gc: GarbageCollector;
  readonly scratch: Scratch;
  readonly hasher: LayerHasher;
  readonly merger: MemoryKeeper;
}
