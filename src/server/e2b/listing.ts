import type { z } from 'zod';
import type { BoxInfo } from '../../api/index.js';
import { type Call, ok, type Route, route } from '../http/route.js';
import { controlDialect } from './dialect.js';
import { factsOf, metadataOf } from './facts.js';
import { pageOf } from './pages.js';
import { listedToJson, stateOf } from './sandbox-json.js';
import { listQuery } from './schemas.js';

type ListQuery = z.infer<typeof listQuery>;
type Wanted = (info: BoxInfo) => boolean;

/** The filter a query asks for. */
function filterOf(query: ListQuery): Wanted {
  const states = [query.state ?? ['running', 'paused']].flat().flatMap((each) => each.split(','));
  // The client encodes its pairs, and then the whole once more.
  const pairs = [...new URLSearchParams(query.metadata ?? '')].map(
    ([key, value]) => [decoded(key), decoded(value)] as const,
  );
  const after = query.startedAfter === undefined ? 0 : Date.parse(query.startedAfter);
  return (info) => {
    const state = stateOf(info);
    if (state === undefined || !states.includes(state) || info.createdAt.getTime() < after) return false;
    if (query.template !== undefined && factsOf(info).template !== query.template) return false;
    const metadata = metadataOf(info);
    return pairs.every(([key, value]) => metadata[key] === value);
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Lists of sandboxes. */
export function listingRoutes(): Route[] {
  const facts = {
    method: 'GET',
    root: true,
    foreign: controlDialect,
    query: listQuery,
    scope: 'box:read',
    answer: { status: 200 },
  } as const;
  const listed = async ({ runtime, signal }: Call, wanted: Wanted): Promise<BoxInfo[]> =>
    (await runtime.list({ signal })).filter(wanted);
  return [
    route({
      ...facts,
      path: '/v2/sandboxes',
      operation: 'e2bListSandboxes',
      summary: 'Sandboxes in pages, the newest first',
      handle: async (call) => {
        const infos = await listed(call, filterOf(call.query));
        const { page, headers } = pageOf(infos, call.query);
        const running = infos.filter(({ status }) => status === 'running').length;
        return ok(page.map(listedToJson), 200, {
          'x-total-running': String(running),
          ...headers,
        });
      },
    }),
    route({
      ...facts,
      path: '/sandboxes',
      operation: 'e2bListRunningSandboxes',
      summary: 'Sandboxes that run',
      handle: async (call) => {
        const infos = await listed(call, filterOf({ ...call.query, state: 'running' }));
        return ok(infos.map(listedToJson));
      },
    }),
  ];
}
