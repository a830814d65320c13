import type { Runtime } from './api/index.js';
import { type LocalOptions, openLocal } from './home/index.js';
import { connectRuntime, type RemoteOptions } from './remote/index.js';

/** Where everything begins: a runtime on this host, or one behind a server. */
export const Cryobox = {
  /**
   * The runtime of a home on this host: the engine in this process, or, when another process owns the home, a client
   * of that one. Close it, or use `await using`. Throws `config_error`, `database_error`, `engine_unavailable`.
   */
  local(options: LocalOptions = {}): Promise<Runtime> {
    return openLocal(options);
  },

  /** The runtime of a server. Nothing is sent before the first call. Throws `invalid_argument` for a bad address. */
  connect(options: RemoteOptions): Runtime {
    return connectRuntime(options);
  },
};
