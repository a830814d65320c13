export { buildBaseDisk, type LayerSource } from './base-disk.js';
export type { ImageConfig } from './config.js';
export { defaultLimits as defaultImageLimits } from './limits.js';
export { parsePlatform } from './platform.js';
export { formatReference, parseName, parseReference, shortRepository } from './reference.js';
