export type { PullRegistry } from './clients.js';
export { pullToDisk } from './pull-to-disk.js';
export { Puller, type PullProgress } from './puller.js';
export { checkRegistryNames, type Reach } from './reach.js';
export type { RegistrySettings } from './settings.js';
export { readRegistrySettings } from './settings-file.js';
