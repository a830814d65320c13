import { z } from 'zod';
import { isSecret } from '../../../base/secret.js';
import { CryoboxError } from '../../../errors.js';
import { boxOf, empty, type ForeignDialect, ok, type Route, route } from '../../http/route.js';
import { type E2bContext, requireSandbox, tokenOf, wake } from '../context.js';
import { envdDialect, holderOfSandbox, rpcDialect } from '../dialect.js';
import { factsOf } from '../facts.js';
import { boxIdParams } from '../params.js';
import { usageOf } from '../usage.js';
import { envdFileRoutes } from './files.js';
import { rpcRoutes } from './rpc.js';
import { checkSignature, type FileOperation, fileQuery } from './signatures.js';
import { signedFileRoutes } from './signed-files.js';

const mebibyte = 1024 * 1024;
const sandboxParams = z.object({ id: z.string() });

/** What lets a request in: nothing, the token of the sandbox in its header, or also a signature of a URL made with that. */
type Proof = 'none' | 'token' | FileOperation;

/** Lets in who has the proof that a sandbox asks for, and wakes a sandbox that traffic wakes. */
function admission(ctx: E2bContext, proof: Proof): ForeignDialect['admit'] & {} {
  return async ({ params, query, headers }) => {
    const sandbox = await requireSandbox(ctx, sandboxParams.parse(params).id);
    const given = headers['x-access-token'];
    const token = tokenOf(ctx, sandbox.box.id);
    const isOpen = proof === 'none' || !factsOf(sandbox.info).secure;
    if (!isOpen && !isSecret(token, typeof given === 'string' ? given : '')) {
      if (proof === 'token' || given !== undefined) throw refused();
      checkSignature(token, proof, fileQuery.parse(query));
    }
    await wake(sandbox);
    return holderOfSandbox(sandbox.id, sandbox.tenant);
  };
}

function refused(): CryoboxError {
  return new CryoboxError(
    'unauthenticated',
    'unauthorized access, please provide a valid access token or method signing if supported',
  );
}

/** The inside of sandboxes: what envd answers elsewhere, by the operations of boxes. */
export function envdRoutes(ctx: E2bContext): Route[] {
  const admit = admission(ctx, 'token');
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
      foreign: envdDialect(admission(ctx, 'none')),
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
    ...envdFileRoutes({
      read: envdDialect(admission(ctx, 'read')),
      write: envdDialect(admission(ctx, 'write')),
    }),
    ...signedFileRoutes(ctx),
    ...rpcRoutes(ctx, rpcDialect(admit)),
  ];
}
