export { buildBaseDisk, type LayerSource } from './base-disk.js';
export type { ImageConfig } from './config.js';
export { defaultLimits as defaultImageLimits } from './limits.js';
export { formatPlatform, hostPlatform, type Platform, parsePlatform, platformMatches } from './platform.js';
export { formatReference, parseName, parseReference, shortRepository } from './reference.js';
