/** The surface of Cryobox as interfaces and option types: one list of everything it does. */
export * from './box.js';
export * from './box-options.js';
export * from './common.js';
export * from './diff.js';
export * from './execution.js';
export * from './file-watch.js';
export * from './files.js';
export * from './images.js';
export * from './limits.js';
export * from './operations.js';
export * from './ports.js';
export * from './previews.js';
export * from './runtime.js';
export * from './secrets.js';
export * from './snapshots.js';
export * from './tree.js';
