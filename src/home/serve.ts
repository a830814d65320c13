import { chmod, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../base/log.js';
import { Engine, type EngineOptions } from '../engine/index.js';
import { createServer, Idempotency, type Server } from '../server/index.js';

/** An engine that owns its home and answers on the home's socket. */
export interface ServedEngine extends AsyncDisposable {
  readonly engine: Engine;
  /** For further servers of this engine. */
  readonly idempotency: Idempotency;
  /** Stops answering and lets go of the home; machines go on. */
  close(): Promise<void>;
  /** Resolves once no box has run and nobody has asked anything over the socket for that long. */
  idle(afterMs: number): Promise<void>;
}

/** Looks within the time after which an engine counts as idle. */
const looksPerIdle = 10;

/**
 * Opens the engine of a home and serves it on `HOME/engine.sock`, readable by the owner only.
 * Throws `home_in_use` when another process owns the home.
 */
export async function serveEngine(options: EngineOptions): Promise<ServedEngine> {
  const engine = await Engine.open(options);
  const idempotency = new Idempotency(engine.idempotency);
  let server: Server | undefined;
  try {
    server = await listenOnSocket(engine, idempotency, options.logger);
  } catch (error) {
    await engine.close();
    throw error;
  }
  const close = async (): Promise<void> => {
    await server.close();
    await rm(engine.paths.socket, { force: true });
    await engine.close();
  };
  const idle = async (afterMs: number): Promise<void> => {
    let quietSince = performance.now();
    while (performance.now() - quietSince < afterMs) {
      await delay(afterMs / looksPerIdle, undefined, { ref: false });
      const quietMs = (await engine.isIdle()) ? server.quietMs() : 0;
      quietSince = Math.max(quietSince, performance.now() - quietMs);
    }
  };
  return { engine, idempotency, idle, close, [Symbol.asyncDispose]: close };
}

async function listenOnSocket(
  engine: Engine,
  idempotency: Idempotency,
  logger: Logger | undefined,
): Promise<Server> {
  const socketPath = engine.paths.socket;
  // The lock is held, so a socket that is there belongs to an engine that is gone.
  await rm(socketPath, { force: true });
  const server = createServer({
    runtimeFor: (tenant) => engine.runtime(tenant),
    authenticator: null,
    idempotency,
    logger,
  });
  await server.listen({ socketPath });
  await chmod(socketPath, 0o600);
  return server;
}
