import { CryoboxError } from '../../errors.js';
import type { EngineControl } from '../http/parts.js';
import { type Call, empty, ok, type Route, route } from '../http/route.js';
import { anyObject } from './schemas/resources.js';

function controlOf({ parts }: Call): EngineControl {
  if (parts.engine) return parts.engine;
  throw new CryoboxError('not_found', 'This server is not the socket of an engine');
}

/** The engine behind the socket of a home, for who owns the home. */
export const engineRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/engine',
    operation: 'getEngine',
    summary: 'Version, process id and kind of the engine (on its own socket only)',
    scope: 'admin',
    answer: { status: 200, body: anyObject },
    passive: true,
    handle: async (call) => ok(controlOf(call).hello),
  }),
  route({
    method: 'POST',
    path: '/engine/handover',
    operation: 'handOverEngine',
    summary: 'Ask the engine to let go of its home once nothing is under way (on its own socket only)',
    scope: 'admin',
    answer: { status: 204 },
    passive: true,
    handle: async (call) => {
      await controlOf(call).handOver(call.signal);
      return empty;
    },
  }),
];
