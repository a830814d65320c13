export { encodeDeviceState, parseDeviceState } from './device-state.js';
export type { PostcopyStats, PostcopyTuning } from './postcopy.js';
