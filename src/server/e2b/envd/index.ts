import { z } from 'zod';
import { isSecret } from '../../../base/secret.js';
import { CryoboxError } from '../../../errors.js';
import { boxOf, empty, ok, type Route, route } from '../../http/route.js';
import { type E2bContext, requireSandbox, tokenOf, wake } from '../context.js';
import { envdDialect, holderOfSandbox, rpcDialect } from '../dialect.js';
import { factsOf } from '../facts.js';
import { boxIdParams } from '../params.js';
import { usageOf } from '../usage.js';
import { envdFileRoutes } from './files.js';
import { rpcRoutes } from './rpc.js';

const mebibyte = 1024 * 1024;
const sandboxParams = z.object({ id: z.string() });

/** Lets in who has the token of the sandbox, and wakes a sandbox that traffic wakes. */
function admission(ctx: E2bContext, { asksToken }: { readonly asksToken: boolean }) {
  return async ({ params, headers }: { params: unknown; headers: Readonly<Record<string, unknown>> }) => {
    const sandbox = await requireSandbox(ctx, sandboxParams.parse(params).id);
    const token = headers['x-access-token'];
    const isOpen = !asksToken || !factsOf(sandbox.info).secure;
    if (!isOpen && !isSecret(tokenOf(ctx, sandbox.box.id), typeof token === 'string' ? token : '')) {
      throw new CryoboxError(
        'unauthenticated',
        'unauthorized access, please provide a valid access token or method signing if supported',
      );
    }
    await wake(sandbox);
    return holderOfSandbox(sandbox.id, sandbox.tenant);
  };
}

/** The inside of sandboxes: what envd answers elsewhere, by the operations of boxes. */
export function envdRoutes(ctx: E2bContext): Route[] {
  const admit = admission(ctx, { asksToken: true });
  const foreign = envdDialect(admit);
  const facts = {
    method: 'GET',
    root: true,
    params: boxIdParams,
    query: z.looseObject({}),
    scope: 'box:read',
    foreign,
  } as const;
  return [
    route({
      ...facts,
      path: '/e2b/envd/:id/health',
      operation: 'e2bSandboxHealth',
      summary: 'Whether a sandbox answers',
      foreign: envdDialect(admission(ctx, { asksToken: false })),
      answer: { status: 204 },
      handle: async () => empty,
    }),
    route({
      ...facts,
      path: '/e2b/envd/:id/metrics',
      operation: 'e2bSandboxMetrics',
      summary: 'What a sandbox uses now',
      answer: { status: 200 },
      handle: async (call) => {
        const used = await usageOf(await boxOf(call), call.signal);
        return ok({
          ts: Math.floor(Date.now() / 1000),
          cpu_count: used?.cpus,
          cpu_used_pct: used?.cpuPercent,
          mem_total: used?.memoryTotalBytes,
          mem_used: used?.memoryBytes,
          mem_cache: 0,
          mem_total_mib: Math.round((used?.memoryTotalBytes ?? 0) / mebibyte),
          mem_used_mib: Math.round((used?.memoryBytes ?? 0) / mebibyte),
          disk_used: used?.diskBytes,
          disk_total: used?.diskTotalBytes,
        });
      },
    }),
    route({
      ...facts,
      path: '/e2b/envd/:id/envs',
      operation: 'e2bSandboxEnvironment',
      summary: 'The environment of a sandbox',
      answer: { status: 200 },
      handle: async (call) => ok((await (await boxOf(call)).info()).env),
    }),
    ...envdFileRoutes(foreign),
    ...rpcRoutes(ctx, rpcDialect(admit)),
  ];
}
