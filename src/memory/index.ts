export { type CaptureOptions, type CaptureResult, captureProcess } from './capture.js';
export { adoptGolden, readSavedMachine, type SavedMachine } from './golden.js';
export type { LayerPaths } from './layer-files.js';
export type { LayerForm, LayerMap } from './layer-map.js';
export type { LayerReader, OpenLayer } from './layer-reader.js';
export { localLayers } from './local-layer.js';
export { readMap } from './map-file.js';
export { MemoryImage } from './memory-image.js';
export { mergeLayers, rebaseMap, writeMapOnly } from './merge.js';
export { type PageServer, readPageServerLog, startPageServer } from './page-server.js';
export type { PageServerConfig, PageServerEvent } from './page-server-config.js';
export { adoptPortable, type PortableLayer, portableLayer, portableLimits } from './portable.js';
export { canReadProcess } from './process-memory.js';
export {
  planResume,
  type ResumePlan,
  type ResumeResult,
  wantsMerge,
  writeResumeStream,
} from './resume.js';
export { captureStream, type StreamCaptureResult } from './stream-capture.js';
export { verifyLayer } from './verify.js';
