import {
  ConnectError,
  createConnectRouter,
  createContextValues,
  type Interceptor,
} from '@connectrpc/connect';
import type { UniversalHandler } from '@connectrpc/connect/protocol';
import { z } from 'zod';
import { CryoboxError } from '../../../errors.js';
import { type Answer, boxOf, type Call, type Route, route } from '../../http/route.js';
import type { E2bContext } from '../context.js';
import { factsOf } from '../facts.js';
import { sandboxIdOf } from '../names.js';
import { boxIdParams } from '../params.js';
import { askerKey } from './asker.js';
import { filesystemImplementation } from './filesystem.js';
import { filesystemService } from './filesystem-messages.js';
import { processImplementation } from './process.js';
import { processService } from './process-messages.js';
import { toConnectError } from './rpc-errors.js';
import { userNameOf } from './users.js';

/** One message: what a client writes to a process at once. */
const maxMessageBytes = 16 * 1024 * 1024;

/** Any error as one of Connect, in the words that callers may see. */
function named({ errors }: E2bContext, error: unknown): ConnectError {
  const named = toConnectError(error);
  return new ConnectError(errors.shown(named.rawMessage), named.code);
}

/** Errors of the catalogue under their names of Connect. */
function namedErrors(ctx: E2bContext): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (error) {
      throw named(ctx, error);
    }
  };
}

/** The same for a stream that fails after its beginning. */
async function* withNamedErrors<T>(ctx: E2bContext, answers: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* answers;
  } catch (error) {
    throw named(ctx, error);
  }
}

function handlersOf(ctx: E2bContext): ReadonlyMap<string, UniversalHandler> {
  const router = createConnectRouter({
    grpc: false,
    grpcWeb: false,
    readMaxBytes: maxMessageBytes,
    interceptors: [namedErrors(ctx)],
  });
  const processes = processImplementation(ctx.processes);
  router.service(processService, {
    ...processes,
    start: (request, context) => withNamedErrors(ctx, processes.start(request, context)),
    connect: (request, context) => withNamedErrors(ctx, processes.connect(request, context)),
  });
  const filesystem = filesystemImplementation(ctx.watchers);
  router.service(filesystemService, {
    ...filesystem,
    watchDir: (request, context) => withNamedErrors(ctx, filesystem.watchDir(request, context)),
  });
  return new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
}

/** A body that breaks off where its sandbox is ended, and never ends politely then. */
async function* cutOff(
  ctx: E2bContext,
  { tenant, boxId }: { readonly tenant: string; readonly boxId: string },
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  using cut = ctx.streams.add(tenant, boxId);
  const ended = new Promise<never>((_resolve, reject) => {
    cut.signal.addEventListener('abort', () =>
      reject(new CryoboxError('stopped', 'The sandbox was not found')),
    );
  });
  ended.catch(() => undefined);
  const chunks = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([chunks.next(), ended]);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // Not waited for: it may hang in what was cut off.
    chunks.return?.().catch(() => undefined);
  }
}

function headersOf({ headers }: Call): Headers {
  const given = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)] as [string, string]],
  );
  return new Headers(given);
}

async function answerOf(
  ctx: E2bContext,
  handler: UniversalHandler,
  call: Call<{ id: string }>,
): Promise<Answer> {
  const box = await boxOf(call);
  const { template } = factsOf(await box.info());
  const sandboxId = sandboxIdOf(box.id);
  const contextValues = createContextValues().set(askerKey, {
    sandboxId,
    box,
    userName: userNameOf(call.headers.authorization),
    env: { E2B_SANDBOX: 'true', E2B_SANDBOX_ID: sandboxId, E2B_TEMPLATE_ID: template },
  });
  const { status, header, body } = await handler({
    httpVersion: '1.1',
    method: 'POST',
    url: `http://sandbox${handler.requestPath}`,
    header: headersOf(call),
    body: call.upload,
    signal: call.signal,
    contextValues,
  });
  const { 'content-type': contentType, ...headers } = Object.fromEntries(header ?? []);
  if (!body) return { status, headers, json: undefined };
  return {
    status,
    headers,
    contentType,
    bytes: cutOff(ctx, { tenant: call.principal.tenant, boxId: box.id }, body),
  };
}

/** The methods of a sandbox's services, each a route. */
export function rpcRoutes(ctx: E2bContext, foreign: Route['foreign']): Route[] {
  return [...handlersOf(ctx)].map(([path, handler]) =>
    route({
      method: 'POST',
      path: `/e2b/envd/:id${path}`,
      root: true,
      operation: `e2b${path.replaceAll(/[/.](\w)/g, (_, letter: string) => letter.toUpperCase())}`,
      summary: 'A method of a sandbox',
      scope: 'box:exec',
      foreign,
      params: boxIdParams,
      query: z.looseObject({}),
      body: 'bytes',
      answer: { status: 200 },
      handle: (call) => answerOf(ctx, handler, call),
    }),
  );
}
