import type { Runtime } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { defaultHome, homePaths } from '../engine/core/home.js';
import { connectRuntime } from '../remote/index.js';
import { openClient } from './local.js';

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
 * when there is none. `logger` hears what speaks against the place of a new home.
 */
export async function openRuntime(
  options: ConnectOptions = {},
  logger?: Pick<Logger, 'warn'>,
): Promise<Runtime> {
  const { home, url, prefix, apiKey } = options;
  // A server has a home of its own: the one that is set here says nothing there.
  if (url !== undefined) return connectRuntime({ url, prefix, apiKey });
  return await openClient(homePaths(home ?? defaultHome()), { logger });
}
