import { chmod, rm } from 'node:fs/promises';
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
}

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
  return { engine, idempotency, close, [Symbol.asyncDispose]: close };
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
