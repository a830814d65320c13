import type { Box, BoxInfo } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { type Call, empty, ok, type Route, route } from '../http/route.js';
import type { E2bContext } from './context.js';
import { controlDialect } from './dialect.js';
import { sandboxOf } from './lookup.js';
import { sandboxIdOf } from './names.js';
import { boxIdParams } from './params.js';
import { sandboxToJson } from './sandbox-json.js';
import { anyQuery, pauseRequest, refreshRequest, timeoutRequest } from './schemas.js';

/** Seconds that `connect` gives a sandbox at least, and `resume`, when the client does not say. */
const connectSeconds = 300;
const resumeSeconds = 15;
/** The least that a client can give: 0 is no end elsewhere. */
const minSeconds = 1;
/** The least that `refreshes` adds. */
const minRefreshSeconds = 15;

/** Brings a sandbox up that does not run. False when it ran. */
async function bringUp(box: Box, { status }: BoxInfo, signal: AbortSignal): Promise<boolean> {
  if (status === 'running') return false;
  if (status === 'paused') return (await box.resume({ signal })).resumed;
  await box.start({ signal });
  return true;
}

/** Brings a sandbox up where it does not run, and lets it live so many seconds; one that runs lives no shorter than before. */
async function connect(call: Call<{ id: string }>, timeout: number): Promise<boolean> {
  const { box, info } = await sandboxOf(call);
  const began = await bringUp(box, info, call.signal);
  // A box that no client of E2B made, and that has no end, keeps none.
  if (info.lifetime > 0)
    await box.setLifetime(Math.max(timeout, minSeconds), { extendOnly: !began, signal: call.signal });
  return began;
}

/** Ends a sandbox as it ends by itself when its time is over. */
async function endNow(ctx: E2bContext, box: Box, { lifetimeAction }: BoxInfo): Promise<void> {
  ctx.streams.cut(box.id);
  if (lifetimeAction === 'pause') await box.pause();
  else if (lifetimeAction === 'remove') await box.remove({ force: true });
  else await box.stop();
}

function alreadyPaused(boxId: string): CryoboxError {
  const text = `Error pausing sandbox - sandbox '${sandboxIdOf(boxId)}' is already paused`;
  return new CryoboxError('invalid_state', text, { hint: 'Connect to it to resume it.' });
}

/** Pauses; who asks while that is under way waits for the same end. */
function pauser(ctx: E2bContext): (box: Box) => Promise<void> {
  const underWay = new Map<string, Promise<void>>();
  const pause = async (box: Box): Promise<void> => {
    if ((await box.info()).status === 'paused') throw alreadyPaused(box.id);
    await box.pause();
    ctx.streams.cut(box.id);
  };
  return (box) => {
    const begun = underWay.get(box.id) ?? pause(box).finally(() => underWay.delete(box.id));
    underWay.set(box.id, begun);
    return begun;
  };
}

/** What changes the state and the end of sandboxes. */
export function lifecycleRoutes(ctx: E2bContext): Route[] {
  const pause = pauser(ctx);
  const facts = {
    method: 'POST',
    root: true,
    foreign: controlDialect,
    params: boxIdParams,
    query: anyQuery,
    scope: 'box:write',
  } as const;
  const connection = (path: string, operation: string): Route =>
    route({
      ...facts,
      path,
      operation,
      summary: 'Use a sandbox, and resume it when it is paused',
      body: timeoutRequest,
      answer: { status: 200 },
      handle: async (call) => {
        const began = await connect(call, call.body.timeout ?? connectSeconds);
        const { info } = await sandboxOf(call);
        return ok(sandboxToJson(ctx, info, call.headers.host), began ? 201 : 200);
      },
    });
  return [
    connection('/v2/sandboxes/:id/connect', 'e2bConnectSandbox'),
    connection('/sandboxes/:id/connect', 'e2bConnectSandboxV1'),
    route({
      ...facts,
      path: '/sandboxes/:id/resume',
      operation: 'e2bResumeSandbox',
      summary: 'Resume a paused sandbox',
      body: timeoutRequest,
      answer: { status: 201 },
      handle: async (call) => {
        if (!(await connect(call, call.body.timeout ?? resumeSeconds))) {
          throw new CryoboxError('conflict', `Sandbox ${sandboxIdOf(call.params.id)} is already running`, {
            hint: 'Connect to it instead.',
          });
        }
        return ok(sandboxToJson(ctx, (await sandboxOf(call)).info, call.headers.host), 201);
      },
    }),
    route({
      ...facts,
      path: '/sandboxes/:id/timeout',
      operation: 'e2bSetTimeout',
      summary: 'Let a sandbox end that many seconds from now',
      body: timeoutRequest,
      answer: { status: 204 },
      handle: async (call) => {
        const { box, info } = await sandboxOf(call);
        const { timeout } = call.body;
        if (typeof timeout !== 'number')
          throw new CryoboxError('invalid_argument', 'the body has no timeout');
        if (timeout === 0) await endNow(ctx, box, info);
        else await box.setLifetime(timeout, { signal: call.signal });
        return empty;
      },
    }),
    route({
      ...facts,
      path: '/sandboxes/:id/refreshes',
      operation: 'e2bRefreshSandbox',
      summary: 'Let a sandbox end later',
      body: refreshRequest,
      answer: { status: 204 },
      handle: async (call) => {
        const { box } = await sandboxOf(call);
        const duration = Math.max(call.body.duration ?? 0, minRefreshSeconds);
        await box.setLifetime(duration, { extendOnly: true, signal: call.signal });
        return empty;
      },
    }),
    route({
      ...facts,
      path: '/sandboxes/:id/pause',
      operation: 'e2bPauseSandbox',
      summary: 'Pause a sandbox with its memory',
      body: pauseRequest,
      answer: { status: 204 },
      handle: async (call) => {
        if (call.body.memory === false) {
          throw new CryoboxError('unsupported', 'a sandbox is not paused without its memory', {
            hint: 'Pause it with its memory.',
          });
        }
        const { box } = await sandboxOf(call);
        await pause(box);
        return empty;
      },
    }),
  ];
}
