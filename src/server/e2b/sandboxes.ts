import type { z } from 'zod';
import type { BoxInfo, CreateOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { Call } from '../http/route.js';
import { ok, type Route, route } from '../http/route.js';
import { ensureUser } from './base-user.js';
import type { E2bContext } from './context.js';
import { controlDialect } from './dialect.js';
import { networkOf } from './egress.js';
import { isMetadataKey, labelsOf } from './facts.js';
import { sandboxOf } from './lookup.js';
import { boxIdParams } from './params.js';
import { detailToJson, sandboxToJson } from './sandbox-json.js';
import { anyQuery, newSandbox } from './schemas.js';
import { findSnapshot } from './snapshots.js';
import { sourceOf } from './templates.js';
import { refuseNames, unknownOf } from './unsupported.js';

type NewSandbox = z.infer<typeof newSandbox>;

/** What of a network is there. */
const networkOptions = new Set([
  'allowPublicTraffic',
  'maskRequestHost',
  'httpsPorts',
  'allowOut',
  'denyOut',
]);

/** What clients can ask for and is not there: refused by name, never ignored. */
function refuseUnsupported(body: NewSandbox): void {
  const { mcp, iam, network, autoPause, autoPauseMemory, autoResume, metadata } = body;
  const asked = [
    ...(mcp ? ['mcp'] : []),
    ...(iam ? ['iam'] : []),
    ...unknownOf(network, networkOptions).map((name) => `network.${name}`),
    ...(autoPauseMemory === false ? ['autoPauseMemory: false'] : []),
  ];
  refuseNames(asked);
  if (autoResume?.enabled && !autoPause) {
    throw new CryoboxError('invalid_argument', 'autoResume needs autoPause');
  }
  if (network?.allowPublicTraffic === false && body.secure === false) {
    throw new CryoboxError('invalid_argument', 'allowPublicTraffic: false needs a secure sandbox');
  }
  const reserved = Object.keys(metadata ?? {}).find((key) => !isMetadataKey(key));
  if (reserved !== undefined) {
    throw new CryoboxError('invalid_argument', `metadata must not have the key ${JSON.stringify(reserved)}`);
  }
}

async function optionsOf(
  ctx: E2bContext,
  { runtime, principal, body }: Pick<Call<unknown, unknown, NewSandbox>, 'runtime' | 'principal' | 'body'>,
  defaults: { readonly timeout: number; readonly secure: boolean },
): Promise<CreateOptions> {
  refuseUnsupported(body);
  const snapshot = await findSnapshot(runtime, principal.tenant, body.templateID);
  const autoResume = body.autoResume?.enabled ?? false;
  const facts = {
    template: snapshot?.base ?? body.templateID,
    autoResume,
    secure: body.secure ?? defaults.secure,
    ports: {
      allowPublicTraffic: body.network?.allowPublicTraffic ?? true,
      maskRequestHost: body.network?.maskRequestHost ?? undefined,
      httpsPorts: body.network?.httpsPorts ?? undefined,
    },
  } as const;
  return {
    ...(snapshot ? { template: snapshot.template.name } : await sourceOf(ctx, runtime, body.templateID)),
    env: body.envVars ?? {},
    labels: labelsOf(facts, body.metadata ?? {}),
    autoResume,
    detach: true,
    network: networkOf({ ...body.network, allowInternet: body.allow_internet_access }),
    volumes: (body.volumeMounts ?? []).map(({ name, path }) => ({ volume: name, guestPath: path })),
    lifetime: body.timeout ?? defaults.timeout,
    lifetimeAction: body.autoPause ? 'pause' : 'remove',
  };
}

async function create(
  ctx: E2bContext,
  call: Call<unknown, unknown, NewSandbox>,
  defaults: { readonly timeout: number; readonly secure: boolean },
): Promise<BoxInfo> {
  const { runtime, signal, operationId, parts } = call;
  const options = await optionsOf(ctx, call, defaults);
  const box = await runtime.create({ ...options, signal, operationId });
  try {
    await ensureUser(box, signal);
    const info = await box.info();
    parts.metrics.stages('e2bCreateSandbox', info.stages);
    return info;
  } catch (error) {
    await box.remove({ force: true });
    throw error;
  }
}

/** Sandboxes as resources: make, look at, end. */
export function sandboxRoutes(ctx: E2bContext): Route[] {
  const one = {
    path: '/sandboxes/:id',
    root: true,
    foreign: controlDialect,
    params: boxIdParams,
    query: anyQuery,
  } as const;
  const creation = (path: string, operation: string, defaults: { timeout: number; secure: boolean }): Route =>
    route({
      method: 'POST',
      path,
      root: true,
      operation,
      summary: 'Make a sandbox and start it',
      scope: 'box:write',
      foreign: controlDialect,
      query: anyQuery,
      body: newSandbox,
      idempotent: true,
      answer: { status: 201 },
      handle: async (call) =>
        ok(sandboxToJson(ctx, await create(ctx, call, defaults), call.headers.host), 201),
    });
  return [
    creation('/v2/sandboxes', 'e2bCreateSandbox', { timeout: 300, secure: true }),
    creation('/sandboxes', 'e2bCreateSandboxV1', { timeout: 15, secure: true }),
    route({
      ...one,
      method: 'GET',
      operation: 'e2bGetSandbox',
      summary: 'One sandbox',
      scope: 'box:read',
      answer: { status: 200 },
      handle: async (call) => {
        const { info } = await sandboxOf(call);
        return ok(detailToJson(ctx, info, call.headers.host));
      },
    }),
    route({
      ...one,
      method: 'DELETE',
      operation: 'e2bKillSandbox',
      summary: 'End a sandbox',
      scope: 'box:delete',
      answer: { status: 204 },
      handle: async (call) => {
        const { box } = await sandboxOf(call);
        ctx.streams.cut(box.id);
        await box.remove({ force: true, signal: call.signal });
        return { status: 204 };
      },
    }),
  ];
}
