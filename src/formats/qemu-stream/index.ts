export { encodeDeviceState, MAX_DEVICE_STATE_BYTES, parseDeviceState } from './device-state.js';
export type { PostcopyStats, PostcopyTuning } from './postcopy.js';
export { hasUserNetwork, withoutUserNetwork } from './user-network.js';
