import type { WebSocket } from 'ws';
import { z } from 'zod';
import { type Box, mainExecution } from '../../api/index.js';
import { doesNotRun, noMain } from '../../base/not-running.js';
import { CryoboxError } from '../../errors.js';
import { boxParams, queryFlag, queryNumber } from '../http/common-schemas.js';
import { closeSoon, parseMessage, type StreamEnd, sendError, streamExecution } from '../http/exec-stream.js';
import { Inbox, type Message } from '../http/inbox.js';
import { Outbox } from '../http/outbox.js';
import { streamPort } from '../http/port-stream.js';
import { Reel } from '../http/reel.js';
import { boxOf, type Call, type Route, route, type Upgrade } from '../http/route.js';
import { attachQuery, execMessage, executionParams } from './schemas/execution.js';

/** Time for the first message on `exec`: a client sends it with the upgrade. */
const firstMessageMs = 10_000;

/** The first message, or `timeout`. */
async function firstMessage(inbox: Inbox): Promise<Message> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), firstMessageMs);
  });
  const message = await Promise.race([inbox.next(), late]);
  clearTimeout(timer);
  if (message) return message;
  throw new CryoboxError('timeout', `No exec message came within ${firstMessageMs} ms`);
}

/** What becomes of a command when its connection has ended. */
async function letGo(call: Call, box: Box, reel: Reel, end: StreamEnd): Promise<void> {
  const { sessions } = call.parts;
  const { id } = reel.execution;
  if (end === 'lost' && !call.parts.closing.aborted) return sessions.hold(box, reel, { reap: false });
  await reel.execution.detach().catch(() => undefined);
  if (end === 'ended') sessions.ended(id);
  else sessions.release(id);
}

async function execOverSocket(call: Call, box: Box, outbox: Outbox, inbox: Inbox): Promise<void> {
  const request = parseMessage(await firstMessage(inbox), execMessage);
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  outbox.closed.then(leave, leave);
  const execution = await box.startExec(request.argv, {
    signal: gone.signal,
    env: request.env,
    cwd: request.cwd,
    user: request.user,
    timeoutMs: request.timeout_ms,
    tty: request.tty,
    stdin: request.stdin ?? false,
  });
  const reel = new Reel(execution);
  const options = { utf8: false, readOnly: false, ack: request.ack ?? false };
  const end = await streamExecution(outbox, inbox, reel, options);
  const goneWith = request.kill_on_disconnect ?? false;
  if (!(await endedWith(call, box, reel, end, goneWith))) {
    await letGo(call, box, reel, end === 'lost' && !request.ack ? 'left' : end);
  }
}

/** Kills a command whose client wants that when it goes; not when it is the server that goes. Says whether it did. */
async function endedWith(
  call: Call,
  box: Box,
  reel: Reel,
  end: StreamEnd,
  wanted: boolean,
): Promise<boolean> {
  if (!wanted || end === 'ended' || call.parts.closing.aborted) return false;
  await reel.execution.kill();
  await letGo(call, box, reel, 'left');
  return true;
}

/** Runs `task` on an accepted socket; what it throws is sent as a message, and the socket is closed in any case. */
function onSocket({ parts }: Call, task: (outbox: Outbox, inbox: Inbox) => Promise<void>): Upgrade {
  return async (socket: WebSocket) => {
    const outbox = new Outbox(socket, parts.errors);
    const inbox = new Inbox(socket);
    try {
      await task(outbox, inbox);
    } catch (error) {
      await sendError(outbox, error);
      outbox.close(1011);
    } finally {
      closeSoon(socket);
    }
  };
}

/** The command to attach to: held here, or by id from the runtime. */
async function reelOf(call: Call<{ eid: string }>, box: Box, stdin: boolean): Promise<Reel> {
  const held = call.parts.sessions.take(box.id, call.params.eid);
  if (held) return held;
  return new Reel(await box.executions.attach(call.params.eid, { stdin, signal: call.signal }));
}

/** Attaches to a command, before its client is answered. */
async function attached(
  call: Call<{ eid: string }, z.output<typeof attachQuery>>,
  box: Box,
): Promise<Upgrade> {
  const { stdin = true, utf8 = true, ack = false, stdout_at: stdout, stderr_at: stderr } = call.query;
  const goneWith = call.query.kill_on_disconnect ?? false;
  const reel = await reelOf(call, box, stdin);
  const options = { utf8, ack, readOnly: !stdin, from: { stdout, stderr } };
  return onSocket(call, async (outbox, inbox) => {
    const end = await streamExecution(outbox, inbox, reel, options);
    if (!(await endedWith(call, box, reel, end, goneWith))) await letGo(call, box, reel, end);
  });
}

/** Header of the answer to an attach to the main command: v1 clients need it for signals and the like. */
const executionHeader = 'x-boxlite-execution-id';

/** What needs a stream in both directions: WebSockets (v1 contract, section 1.6, and ours). */
export const attachRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/executions/:eid/attach',
    operation: 'attachExecution',
    summary: "A command's streams (WebSocket)",
    scope: 'box:exec',
    params: executionParams,
    query: attachQuery,
    answer: { status: 101 },
    upgrade: async (call) => {
      return await attached(call, await boxOf(call));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/attach',
    operation: 'attachMain',
    summary: "The main command's streams (WebSocket); its id is in the header of the answer",
    scope: 'box:exec',
    params: boxParams,
    query: attachQuery,
    answer: { status: 101 },
    upgradeHeaders: { [executionHeader]: mainExecution },
    upgrade: async (call) => {
      const box = await boxOf(call);
      const { main, status } = await box.info({ signal: call.signal });
      if (!main) throw noMain(box.id);
      if (status !== 'running') throw doesNotRun('attaching to its main command', { id: box.id, status });
      return await attached({ ...call, params: { eid: mainExecution } }, box);
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/exec',
    operation: 'execStream',
    summary: 'Run a command and carry its streams, in one connection (WebSocket)',
    scope: 'box:exec',
    params: boxParams,
    answer: { status: 101 },
    upgrade: async (call) => {
      const box = await boxOf(call);
      return onSocket(call, (outbox, inbox) => execOverSocket(call, box, outbox, inbox));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/ports/:port',
    operation: 'connectPort',
    summary: 'A connection to a TCP port of the box (WebSocket)',
    scope: 'box:exec',
    params: boxParams.extend({ port: queryNumber(1, 65_535) }),
    query: z.strictObject({ wake: queryFlag.optional() }),
    answer: { status: 101 },
    upgrade: async (call) => {
      const box = await boxOf(call);
      const connection = await box.dial(call.params.port, { signal: call.signal, wake: call.query.wake });
      return onSocket(call, (outbox, inbox) => streamPort(outbox, inbox, connection));
    },
  }),
];
