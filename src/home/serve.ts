import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { environmentValue } from '../base/environment.js';
import { ifExists } from '../base/files.js';
import type { Logger } from '../base/log.js';
import { Engine, type EngineOptions } from '../engine/index.js';
import {
  createServer,
  type EngineControl,
  type EngineKind,
  Idempotency,
  type Server,
} from '../server/index.js';
import { Handover } from './handover.js';

/** An engine that owns its home and answers on the home's socket. */
export interface ServedEngine extends AsyncDisposable {
  readonly engine: Engine;
  /** For further servers of this engine. */
  readonly idempotency: Idempotency;
  /** Stops answering and lets go of the home; machines go on. Calls after the first wait for the same end. */
  close(): Promise<void>;
  /** Resolves once no box has run and nobody has asked anything over the socket for that long, or the home is gone. */
  idle(afterMs: number): Promise<void>;
  /** Resolves when somebody has asked for the home and gets it: the engine is to be closed then. */
  readonly handedOver: Promise<void>;
}

/** How an engine is served on the socket of its home. */
export interface ServeOptions extends EngineOptions {
  /** What the engine is part of; one in the background hands its home over to who asks. */
  readonly kind: EngineKind;
}

/** Looks within the time after which an engine counts as idle. */
const looksPerIdle = 10;

/**
 * Opens the engine of a home and serves it on `HOME/engine.sock`, readable by the owner only.
 * Throws `home_in_use` when another process owns the home.
 */
export async function serveEngine({ kind, ...options }: ServeOptions): Promise<ServedEngine> {
  const address = environmentValue('CRYOBOX_REPLICATE');
  const replicate = options.replicate ?? (address === undefined ? undefined : { address });
  const engine = await Engine.open({ ...options, ...(replicate && { replicate }) });
  const idempotency = new Idempotency(engine.idempotency);
  let server: Server | undefined;
  const handover = new Handover(kind, () => [...(server?.underWay() ?? []), ...engine.underWay()]);
  try {
    server = await listenOnSocket(engine, idempotency, handover, options.logger);
  } catch (error) {
    await engine.close();
    throw error;
  }
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= closeBoth(server, engine);
    return closing;
  };
  const idle = async (afterMs: number): Promise<void> => {
    let quietSince = performance.now();
    while (performance.now() - quietSince < afterMs) {
      await delay(afterMs / looksPerIdle, undefined, { ref: false });
      // Somebody removed the home: nobody can find this engine any more.
      if (!(await ifExists(stat(engine.paths.lock)))) return;
      // A home that cannot be asked now is not idle.
      const isIdle = await engine.isIdle().catch(() => false);
      const quietMs = isIdle ? server.quietMs() : 0;
      quietSince = Math.max(quietSince, performance.now() - quietMs);
    }
  };
  return {
    engine,
    idempotency,
    idle,
    close,
    handedOver: handover.wanted,
    [Symbol.asyncDispose]: close,
  };
}

/** The lock is let go of last, and in any case. */
async function closeBoth(server: Server, engine: Engine): Promise<void> {
  try {
    await server.close();
  } finally {
    await engine.close();
  }
}

async function listenOnSocket(
  engine: Engine,
  idempotency: Idempotency,
  control: EngineControl,
  logger: Logger | undefined,
): Promise<Server> {
  const server = createServer({
    runtimeFor: (tenant, access) => engine.runtime(tenant, access),
    authenticator: null,
    idempotency,
    logger,
    engine: control,
  });
  // The lock is held, so a socket that is there belongs to an engine that is gone: it is replaced.
  await server.listen({ socketPath: engine.paths.socket });
  return server;
}
