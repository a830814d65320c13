export { diffDisks } from './compare/index.js';
export { buildEmptyDisk } from './empty-disk.js';
