import type { WebSocket } from 'ws';
import type { Box } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { closeSoon, parseMessage, type StreamEnd, sendError, streamExecution } from '../exec-stream.js';
import { Inbox, type Message } from '../inbox.js';
import { Outbox } from '../outbox.js';
import { streamPort } from '../port-stream.js';
import { Reel } from '../reel.js';
import { boxOf, type Call, type Route, route, type Upgrade } from '../route.js';
import { boxParams, queryNumber } from '../schemas/common.js';
import { attachQuery, execMessage, executionParams } from '../schemas/execution.js';

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
  if (end === 'lost') return sessions.hold(box, reel, { reap: false });
  await reel.execution.detach().catch(() => undefined);
  if (end === 'ended') sessions.ended(id);
  else sessions.release(id);
}

async function execOverSocket(call: Call, box: Box, outbox: Outbox, inbox: Inbox): Promise<void> {
  const request = parseMessage(await firstMessage(inbox), execMessage);
  const gone = new AbortController();
  void outbox.closed.then(() => gone.abort());
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
  if (end !== 'ended' && request.kill_on_disconnect) {
    await execution.kill();
    await letGo(call, box, reel, 'left');
  } else {
    await letGo(call, box, reel, end === 'lost' && !request.ack ? 'left' : end);
  }
}

/** Runs `task` on an accepted socket; what it throws is sent as a message, and the socket is closed in any case. */
function onSocket(task: (outbox: Outbox, inbox: Inbox) => Promise<void>): Upgrade {
  return async (socket: WebSocket) => {
    const outbox = new Outbox(socket);
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
      const box = await boxOf(call);
      const { stdin = true, utf8 = true, ack = false, stdout_at: stdout, stderr_at: stderr } = call.query;
      const reel = await reelOf(call, box, stdin);
      const options = { utf8, ack, readOnly: !stdin, from: { stdout, stderr } };
      return onSocket(async (outbox, inbox) => {
        await letGo(call, box, reel, await streamExecution(outbox, inbox, reel, options));
      });
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
      return onSocket((outbox, inbox) => execOverSocket(call, box, outbox, inbox));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/ports/:port',
    operation: 'connectPort',
    summary: 'A connection to a TCP port of the box (WebSocket)',
    scope: 'box:exec',
    params: boxParams.extend({ port: queryNumber(1, 65_535) }),
    answer: { status: 101 },
    upgrade: async (call) => {
      const box = await boxOf(call);
      const connection = await box.dial(call.params.port, { signal: call.signal });
      return onSocket((outbox, inbox) => streamPort(outbox, inbox, connection));
    },
  }),
];
