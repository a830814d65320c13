import { z } from 'zod';
import { CryoboxError } from '../../errors.js';
import { toCryoboxError } from '../http/errors.js';
import { empty, ok, type Route, route } from '../http/route.js';
import type { E2bContext } from './context.js';
import { controlDialect, httpAnswer } from './dialect.js';
import { sandboxOf } from './lookup.js';
import { sandboxIdOf } from './names.js';
import { pageOf } from './pages.js';
import { boxIdParams, missingText } from './params.js';
import { sandboxToJson } from './sandbox-json.js';
import { anyQuery, forkRequest, pageQuery, snapshotRequest } from './schemas.js';
import {
  deleteSnapshot,
  findSnapshot,
  isNamed,
  type Snapshot,
  snapshotsOf,
  takeSnapshot,
} from './snapshots.js';

/** Seconds that a fork lives when the client does not say, as long as a sandbox that is made. */
const forkSeconds = 300;

const listQuery = pageQuery.extend({ sandboxID: z.string().optional(), name: z.string().optional() });
const templateParams = z.object({ id: z.string().min(1).max(512) });

function snapshotToJson({ id, names }: Snapshot) {
  return { snapshotID: id, names };
}

/** Snapshots of sandboxes, and forks. */
export function snapshotRoutes(ctx: E2bContext): Route[] {
  const facts = { root: true, foreign: controlDialect, query: anyQuery } as const;
  return [
    route({
      ...facts,
      method: 'POST',
      path: '/sandboxes/:id/snapshots',
      operation: 'e2bCreateSnapshot',
      summary: 'Keep a sandbox as it is now, for sandboxes to be made from; it goes on',
      scope: 'template:write',
      params: boxIdParams,
      body: snapshotRequest,
      answer: { status: 201 },
      handle: async (call) => {
        const { name, memory } = call.body;
        if (memory === false) {
          throw new CryoboxError('unsupported', 'a snapshot is not taken without the memory', {
            hint: 'Take it with its memory.',
          });
        }
        const { info } = await sandboxOf(call);
        if (info.status !== 'running') throw new CryoboxError('not_found', missingText(sandboxIdOf(info.id)));
        const { runtime, principal, signal } = call;
        const taken = await takeSnapshot(runtime, principal.tenant, info, {
          name: name ?? undefined,
          signal,
        });
        return ok(snapshotToJson(taken), 201);
      },
    }),
    route({
      ...facts,
      method: 'GET',
      path: '/snapshots',
      operation: 'e2bListSnapshots',
      summary: 'Snapshots in pages, the newest first',
      scope: 'template:read',
      query: listQuery,
      answer: { status: 200 },
      handle: async ({ runtime, principal, query, signal }) => {
        const { sandboxID, name } = query;
        const [source] = sandboxID?.split('-') ?? [];
        const wanted = (await snapshotsOf(runtime, principal.tenant, signal)).filter(
          (each) =>
            (source === undefined || each.source === source) && (name === undefined || isNamed(each, name)),
        );
        const placed = wanted.map((item) => ({
          item,
          createdAt: item.template.createdAt,
          id: item.template.name,
        }));
        const { page, headers } = pageOf(placed, query);
        return ok(
          page.map(({ item }) => snapshotToJson(item)),
          200,
          headers,
        );
      },
    }),
    route({
      ...facts,
      method: 'DELETE',
      path: '/templates/:id',
      operation: 'e2bDeleteTemplate',
      summary: 'Delete a snapshot',
      scope: 'template:write',
      params: templateParams,
      answer: { status: 204 },
      handle: async ({ runtime, principal, params, signal }) => {
        const snapshot = await findSnapshot(runtime, principal.tenant, params.id);
        if (!snapshot)
          throw new CryoboxError('not_found', `there is no snapshot ${JSON.stringify(params.id)}`);
        await deleteSnapshot(runtime, snapshot, signal);
        return empty;
      },
    }),
    route({
      ...facts,
      method: 'POST',
      path: '/sandboxes/:id/fork',
      operation: 'e2bForkSandbox',
      summary: 'Branch a sandbox that runs into others with its processes',
      scope: 'box:write',
      params: boxIdParams,
      body: forkRequest,
      idempotent: true,
      answer: { status: 201 },
      handle: async (call) => {
        const { box, info } = await sandboxOf(call);
        if (info.status !== 'running') {
          throw new CryoboxError('conflict', `Sandbox "${sandboxIdOf(info.id)}" does not run`, {
            hint: 'Connect to it to resume it.',
          });
        }
        const { signal, operationId } = call;
        const results = await box.fork({ count: call.body.count ?? 1, signal, operationId });
        const forks = results.map(async (result) => {
          if ('error' in result)
            return { error: ctx.errors.shown(httpAnswer(toCryoboxError(result.error)).body) };
          await result.box.setLifetime(call.body.timeout ?? forkSeconds, { action: info.lifetimeAction });
          return { sandbox: sandboxToJson(ctx, await result.box.info(), call.headers.host) };
        });
        return ok(await Promise.all(forks), 201);
      },
    }),
  ];
}
