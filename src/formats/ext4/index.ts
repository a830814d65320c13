export { diffDisks } from './compare/index.js';
export { changedLayer } from './compare/layer.js';
export { buildEmptyDisk } from './empty-disk.js';
