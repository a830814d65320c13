import type { LayersContext } from '../layers/context.js';
import type { ImageStore } from './store.js';

/** What working with images needs. */
export interface ImagesContext extends LayersContext {
  readonly images: ImageStore;
  /** Of a runtime for callers that are no users of this host: registries that need not be on the public internet. */
  readonly allowedRegistries?: readonly string[];
}
