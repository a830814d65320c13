export {
  type Accelerator,
  type ArchitectureName,
  architectureOf,
  architectureOfMachineType,
  architectureOfPlatform,
  firstArchitecture,
  hostArchitecture,
} from './architectures.js';
export {
  type Card,
  type DiskSlot,
  goldenMac,
  type MachineSpec,
  machineFiles,
  qemuArguments,
  type RamSource,
  type VolumeSlot,
} from './arguments.js';
export {
  activeHeads,
  attachDisk,
  type BackingChange,
  type DiskChain,
  type DiskNode,
  detachDisk,
  type HeadSwitch,
  makeReadOnly,
  replaceBacking,
  switchHeads,
} from './block.js';
export { isDirectoryInUse } from './directory.js';
export { lastWords, type MachineUser, machineFailure } from './launch.js';
export { Machine, type MachineFile } from './machine.js';
export {
  cpuTimeMs,
  endProcess,
  hostBootId,
  identify,
  isAlive,
  killProcess,
  machinesBelow,
  type ProcessIdentity,
} from './process.js';
export { findQemu, type QemuBinary } from './qemu.js';
export { firstQemuWith, qemuHas } from './qemu-versions.js';
export { QmpClient } from './qmp.js';
export {
  deviceListVersion,
  type MachineShape,
  volumeSlots,
} from './shape.js';
export { loadLazily, loadState, saveDeviceState, saveDevices, streamState } from './state.js';
export { type Throttle, throttleDisks } from './throttle.js';
export { newMachineUser } from './user.js';
export { attachVolume } from './volume.js';
