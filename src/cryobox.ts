import type { Runtime } from './api/index.js';
import { checkOptions, type OptionNames } from './base/check-options.js';
import { type LocalOptions, openLocal } from './home/index.js';
import { connectRuntime, type RemoteOptions } from './remote/index.js';

const localOptions: OptionNames<LocalOptions> = {
  home: true,
  logger: true,
  poolSize: true,
  engine: true,
  packageDirectory: true,
};

/** Where everything begins: a runtime on this host, or one behind a server. */
export const Cryobox = {
  /**
   * The runtime of a home on this host. Its engine runs in a process of its own, which is started when there is none, and
   * which all programs of the home share; with `engine: 'in-process'` in this one. Close it, or use `await using`.
   * Throws `config_error`, `database_error`, `disk_full`, `engine_unavailable`, `permission_denied`, `invalid_argument`.
   */
  async local(options: LocalOptions = {}): Promise<Runtime> {
    checkOptions('Cryobox.local', options, localOptions);
    return await openLocal(options);
  },

  /** The runtime of a server. Nothing is sent before the first call. Throws `invalid_argument` for a bad address. */
  connect(options: RemoteOptions): Runtime {
    return connectRuntime(options);
  },
};
