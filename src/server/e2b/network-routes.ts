import { CryoboxError } from '../../errors.js';
import { empty, type Route, route } from '../http/route.js';
import { controlDialect } from './dialect.js';
import { networkOf } from './egress.js';
import { sandboxOf } from './lookup.js';
import { sandboxIdOf } from './names.js';
import { boxIdParams, missingText } from './params.js';
import { anyQuery, networkUpdate } from './schemas.js';
import { refuseOptions } from './unsupported.js';

const known = new Set(['allowOut', 'denyOut', 'allow_internet_access']);

/** The network of sandboxes that run. */
export function networkRoutes(): Route[] {
  return [
    route({
      method: 'PUT',
      path: '/sandboxes/:id/network',
      root: true,
      foreign: controlDialect,
      operation: 'e2bUpdateNetwork',
      summary: 'Replace what a sandbox may connect to',
      scope: 'box:write',
      params: boxIdParams,
      query: anyQuery,
      body: networkUpdate,
      answer: { status: 204 },
      handle: async (call) => {
        const { body, signal } = call;
        refuseOptions(body, known);
        const { box, info } = await sandboxOf(call);
        if (info.status !== 'running') throw new CryoboxError('not_found', missingText(sandboxIdOf(info.id)));
        const { allowOut, denyOut, allow_internet_access: allowInternet } = body;
        // Of the other settings it says nothing.
        const { rateLimit } = await box.network.info({ signal });
        const lists = networkOf({ allowOut, denyOut, allowInternet });
        await box.network.update({ ...lists, ...(rateLimit && { rateLimit }), signal });
        return empty;
      },
    }),
  ];
}
