import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { controlDialect } from './dialect.js';
import { boxIdParams } from './params.js';
import { anyQuery } from './schemas.js';

/** What is asked of the server itself, and logs. */
export function serviceRoutes(): Route[] {
  const facts = { method: 'GET', root: true, foreign: controlDialect, query: anyQuery } as const;
  return [
    route({
      ...facts,
      path: '/health',
      operation: 'e2bHealth',
      summary: 'Whether the server answers',
      scope: 'public',
      answer: { status: 204 },
      passive: true,
      handle: async () => empty,
    }),
    route({
      ...facts,
      path: '/sandboxes/:id/logs',
      operation: 'e2bGetLogs',
      summary: 'The lines a sandbox has logged; there are none',
      scope: 'box:read',
      params: boxIdParams,
      answer: { status: 200 },
      handle: async (call) => {
        await boxOf(call);
        return ok({ logs: [], logEntries: [] });
      },
    }),
  ];
}
