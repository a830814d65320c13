import type { Runtime } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { usePackage } from '../base/package-files.js';
import { defaultHome, type HomePaths, homePaths } from '../engine/core/home.js';
import { CryoboxError, isCryoboxError } from '../errors.js';
import { openRemote } from '../remote/open.js';
import { ensureEngine, helloOf, untilSettled } from './ensure.js';
import type { ServedEngine } from './serve.js';

/** How a home is opened. */
export interface LocalOptions {
  /** @default `CRYOBOX_HOME`, else `~/.cryobox` */
  readonly home?: string;
  /** @default says nothing */
  readonly logger?: Logger;
  /** Waiting machines per shape in use, of an engine that is started by this call. @default 1 */
  readonly poolSize?: number;
  /**
   * Where the engine runs. `background`: in a process of its own that all programs share, and that ends when nobody needs
   * it. `in-process`: in this one, unless another process has the home already. @default 'background'
   */
  readonly engine?: 'background' | 'in-process';
  /**
   * The directory of the installed package, `node_modules/cryobox`, for a program that was bundled away from it: the guest's
   * programs and the engine in the background are started from there. @default `CRYOBOX_PACKAGE`, else where this code is
   */
  readonly packageDirectory?: string;
}

/**
 * The runtime of a home, whoever has its engine; it goes on when the engine ends and another takes its place. Throws
 * `config_error`, `database_error`, `disk_full`, `engine_unavailable`, `permission_denied`, `invalid_argument`.
 */
export async function openLocal(options: LocalOptions = {}): Promise<Runtime> {
  if (options.packageDirectory !== undefined) usePackage(options.packageDirectory);
  const paths = homePaths(options.home ?? defaultHome());
  const { engine = 'background' } = options;
  if (engine === 'in-process') return await openInProcess(paths, options);
  if (engine === 'background') return await openClient(paths, options);
  throw new CryoboxError(
    'invalid_argument',
    `engine must be 'background' or 'in-process', got ${JSON.stringify(engine)}`,
  );
}

/** A client of the engine of a home, which is started in the background whenever there is none. */
export async function openClient(
  paths: HomePaths,
  { poolSize, logger }: { readonly poolSize?: number; readonly logger?: Pick<Logger, 'warn'> } = {},
): Promise<Runtime> {
  const options = { poolSize, onWarning: (text: string) => logger?.warn(text) };
  await ensureEngine(paths, options);
  return openRemote({ socketPath: paths.socket }, { revive: () => ensureEngine(paths, options) });
}

/** The engine in this process, or, when another process has the home, a client of that one. */
async function openInProcess(paths: HomePaths, options: LocalOptions): Promise<Runtime> {
  return await untilSettled(paths, async () => {
    try {
      return await openShared(paths, options);
    } catch (error) {
      if (!isCryoboxError(error, 'home_in_use')) throw error;
    }
    // While nobody answers, the one who has it is starting or closing.
    return (await helloOf(paths)) === 'nobody' ? undefined : await openClient(paths, options);
  });
}

/** An engine of this process, and how many runtimes use it. */
interface Shared {
  readonly served: Promise<ServedEngine>;
  users: number;
}

/** By home: programs open theirs twice, and the first to close must not take it from the other. */
const sharedHere = new Map<string, Shared>();

/** The engine is loaded only by who has one: for a client that would be most of its start. */
async function serveHere(paths: HomePaths, options: LocalOptions): Promise<ServedEngine> {
  const { serveEngine } = await import('./serve.js');
  return await serveEngine({ ...options, home: paths.root, kind: 'in-process' });
}

async function openShared(paths: HomePaths, options: LocalOptions): Promise<Runtime> {
  const shared = sharedHere.get(paths.root) ?? {
    served: serveHere(paths, options),
    users: 0,
  };
  sharedHere.set(paths.root, shared);
  shared.users += 1;
  let uses = true;
  const letGo = async (): Promise<void> => {
    if (!uses) return;
    uses = false;
    shared.users -= 1;
    if (shared.users > 0) return;
    if (sharedHere.get(paths.root) === shared) sharedHere.delete(paths.root);
    await (await shared.served.catch(() => undefined))?.close();
  };
  try {
    return (await shared.served).engine.runtime('', { onClose: letGo });
  } catch (error) {
    await letGo();
    throw error;
  }
}
