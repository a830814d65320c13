export { type BaseDisk, buildBaseDisk, defaultBaseDiskBytes } from './base-disk.js';
export { buildDebianImage } from './build.js';
export type { ImageConfig } from './config.js';
export { type Image, layerSources, loadImage } from './image.js';
export { importImage } from './import.js';
export { defaultLimits as defaultImageLimits } from './limits.js';
export { formatReference, parseReference, shortReference, shortRepository } from './reference.js';
export { BlobStore } from './store.js';
