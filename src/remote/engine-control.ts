import { CryoboxError, isCryoboxError } from '../errors.js';
import { type EngineHello, engineHelloFrom } from '../wire/engine.js';
import { asObject } from '../wire/json.js';
import { type Ask, Transport } from './transport.js';

export type { EngineHello, EngineKind } from '../wire/engine.js';

/** An engine that runs answers at once, unless its host is overloaded or it was stopped. */
const helloTimeoutMs = 5_000;

/**
 * Which engine answers on the socket of a home; undefined when none does. Throws `permission_denied` when the socket is
 * not for this user, `timeout` when there is an engine that does not answer in time, `not_found` for one of a release that
 * does not say.
 */
export async function engineHello(socketPath: string): Promise<EngineHello | undefined> {
  const signal = AbortSignal.timeout(helloTimeoutMs);
  try {
    return engineHelloFrom(asObject(await ask(socketPath, { method: 'GET', path: '/engine', signal })));
  } catch (error) {
    if (isCryoboxError(error, 'network_unavailable')) return undefined;
    if (!isCryoboxError(error, 'cancelled')) throw error;
    throw new CryoboxError('timeout', `the engine at ${socketPath} says nothing for ${helloTimeoutMs} ms`, {
      cause: error,
      hint: 'Try again when the host is less busy; `cryobox engine stop` ends the engine, boxes go on.',
    });
  }
}

/**
 * Asks the engine of a home to let go of it; resolves when it is about to. Throws `home_in_use` when it never does,
 * `conflict` when something is under way for too long, `not_found` when it is of a release that cannot.
 */
export async function askToHandOver(socketPath: string): Promise<void> {
  await ask(socketPath, { method: 'POST', path: '/engine/handover' });
}

async function ask(socketPath: string, request: Ask): Promise<unknown> {
  const transport = new Transport({ socketPath });
  try {
    if (request.method === 'GET') return await transport.json(request);
    return await transport.empty(request);
  } finally {
    await transport.close();
  }
}
