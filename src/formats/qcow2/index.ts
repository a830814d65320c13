export {
  type DiskChain,
  type KnownLayer,
  type OpenChainOptions,
  type OpenDisks,
  openBoth,
  openChain,
  openLayers,
} from './chain.js';
export { type ChangedRanges, findChanges } from './changes.js';
export { checkImage, type ImageCheck } from './check.js';
export { type FlattenedImage, type FlattenOptions, flatten, flattenStream } from './flatten.js';
export type { Backing, DiskFormat } from './format.js';
export type { Qcow2Header } from './header.js';
export { findDataRanges } from './holes.js';
export { readHeader, readHeaderSync } from './layer.js';
export type { DiskRange } from './map.js';
export { type CreateOverlayOptions, createOverlay } from './overlay.js';
export { growVirtualSize, type RewriteOptions, renameBacking, setBacking } from './rewrite.js';
