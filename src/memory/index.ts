export { type CaptureOptions, type CaptureResult, captureProcess } from './capture.js';
export { type PageServer, readPageServerLog, startPageServer } from './page-server.js';
export type { PageServerConfig, PageServerEvent } from './page-server-config.js';
export { canReadProcess } from './process-memory.js';
export { captureStream, type StreamCaptureResult } from './stream-capture.js';
