import { homePaths } from '../engine/core/home.js';
import { keepLogSmall } from './engine-log.js';

export { defaultHome } from '../engine/core/home.js';
export { type LocalOptions, openLocal } from './local.js';
export { type ServedEngine, serveEngine } from './serve.js';

/** Keeps the log of the background engine of a home within its size, until it is disposed of. */
export function keepEngineLogSmall(home: string): Disposable {
  return keepLogSmall(homePaths(home).engineLog);
}
