import { CryoboxError } from '../../../errors.js';
import { type Call, type Route, route } from '../../http/route.js';
import { type E2bContext, requireSandbox, tokenOf, wake } from '../context.js';
import { envdDialect, holderOfSandbox } from '../dialect.js';
import { sandboxIdOf } from '../names.js';
import { readFile, writeFiles } from './files.js';
import { checkSignature, type FileOperation, type FileQuery, fileQuery, isSignedWith } from './signatures.js';

/**
 * The box whose token a URL is signed with: where all is at one address, nothing else in it names the sandbox. Those that run
 * are tried, a hash each. Throws `unauthenticated`.
 */
function signedBox(ctx: E2bContext, operation: FileOperation, query: FileQuery): string {
  for (const boxId of ctx.runningBoxes()) {
    const token = tokenOf(ctx, boxId);
    if (!isSignedWith(token, operation, query)) continue;
    checkSignature(token, operation, query);
    return boxId;
  }
  throw new CryoboxError(
    'unauthenticated',
    query.signature === undefined ? 'missing signature query parameter' : 'invalid signature',
    { hint: 'Ask the client for a new URL of a sandbox that runs.' },
  );
}

/** Files by signed URLs that name no sandbox. */
export function signedFileRoutes(ctx: E2bContext): Route[] {
  const facts = (operation: FileOperation) =>
    ({
      path: '/files',
      root: true,
      query: fileQuery,
      answer: { status: 200 },
      foreign: envdDialect(async ({ query }) => {
        const boxId = signedBox(ctx, operation, fileQuery.parse(query));
        const sandbox = await requireSandbox(ctx, sandboxIdOf(boxId));
        await wake(sandbox);
        return holderOfSandbox(sandbox.id, sandbox.tenant);
      }),
    }) as const;
  const inBox = (
    call: Call<unknown, FileQuery>,
    operation: FileOperation,
  ): Call<{ id: string }, FileQuery> => ({
    ...call,
    runtime: call.runtime,
    params: { id: signedBox(ctx, operation, call.query) },
  });
  return [
    route({
      ...facts('read'),
      method: 'GET',
      operation: 'e2bReadSignedFile',
      summary: 'The bytes of a file, by a signed URL',
      scope: 'box:read',
      handle: (call: Call<unknown, FileQuery>) => readFile(inBox(call, 'read')),
    }),
    route({
      ...facts('write'),
      method: 'POST',
      operation: 'e2bWriteSignedFiles',
      summary: 'Write files, by a signed URL',
      scope: 'box:write',
      body: 'bytes',
      handle: (call: Call<unknown, FileQuery>) => writeFiles(inBox(call, 'write')),
    }),
  ];
}
