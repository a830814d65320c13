export { buildEmptyDisk } from './empty-disk.js';
