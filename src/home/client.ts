import type { Runtime } from '../api/index.js';
import { defaultHome, homePaths } from '../engine/home.js';
import { connectRuntime } from '../remote/index.js';
import { ensureEngine } from './background.js';

/** Which engine to talk to. */
export interface ConnectOptions {
  /** Address of a server. @default the engine of the home */
  readonly url?: string;
  readonly apiKey?: string;
  /** Path prefix of the tenant. */
  readonly prefix?: string;
  /** @default `CRYOBOX_HOME`, else `~/.cryobox` */
  readonly home?: string;
}

/**
 * A client: of a server when `url` is given, else of the engine of the home, which is started in the background
 * when there is none.
 */
export async function openRuntime(options: ConnectOptions = {}): Promise<Runtime> {
  if (options.url !== undefined) return connectRuntime(options);
  const paths = homePaths(options.home ?? defaultHome());
  await ensureEngine(paths);
  return connectRuntime({ socketPath: paths.socket });
}
