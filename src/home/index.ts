import type { Runtime } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { defaultHome, homePaths } from '../engine/home.js';
import { isCryoboxError } from '../errors.js';
import { connectRuntime } from '../remote/index.js';
import { keepLogSmall } from './engine-log.js';
import { serveEngine } from './serve.js';

export { defaultHome } from '../engine/home.js';
export { type ServedEngine, serveEngine } from './serve.js';

/** How a home is opened in this process. */
export interface LocalOptions {
  /** @default `CRYOBOX_HOME`, else `~/.cryobox` */
  readonly home?: string;
  /** @default says nothing */
  readonly logger?: Logger;
  /** Waiting machines per shape in use. @default 1 */
  readonly poolSize?: number;
}

/**
 * The runtime of a home: the engine in this process, or, when another process owns the home, a client of that one
 * over its socket. Throws `config_error`, `database_error`, `engine_unavailable`.
 */
export async function openLocal(options: LocalOptions = {}): Promise<Runtime> {
  const home = options.home ?? defaultHome();
  try {
    const served = await serveEngine({ ...options, home });
    return served.engine.runtime('', { onClose: () => served.close() });
  } catch (error) {
    if (!isCryoboxError(error, 'home_in_use')) throw error;
    return connectRuntime({ socketPath: homePaths(home).socket });
  }
}

/** Keeps the log of the background engine of a home within its size, until it is disposed of. */
export function keepEngineLogSmall(home: string): Disposable {
  return keepLogSmall(homePaths(home).engineLog);
}
