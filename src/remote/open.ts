import type { Runtime } from '../api/index.js';
import { checkOptions, type OptionNames } from '../base/check-options.js';
import { surfaceOf } from '../surface/surface.js';
import type { RemoteOptions } from './address.js';

import { RemoteRuntime } from './runtime.js';
import { Transport, type TransportHooks } from './transport.js';

const remoteOptions: OptionNames<RemoteOptions> = { url: true, socketPath: true, apiKey: true, prefix: true };

/** The runtime of a server, with what its transport can do beside sending. Throws `invalid_argument` for a bad address. */
export function openRemote(options: RemoteOptions, hooks: TransportHooks = {}): Runtime {
  checkOptions('connectRuntime', options, remoteOptions);
  return surfaceOf(new RemoteRuntime(new Transport(options, hooks)));
}
