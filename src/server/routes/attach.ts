import type { WebSocket } from 'ws';
import type { Box, Execution } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { closeSoon, parseMessage, sendError, streamExecution } from '../exec-stream.js';
import { Inbox, type Message } from '../inbox.js';
import { Outbox } from '../outbox.js';
import { streamPort } from '../port-stream.js';
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

async function execOverSocket(box: Box, outbox: Outbox, inbox: Inbox): Promise<void> {
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
  const ended = await streamExecution(outbox, inbox, execution, { utf8: false, readOnly: false });
  if (!ended && request.kill_on_disconnect) await box.executions.kill(execution.id);
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

/** The execution to attach to: held since its POST, or by id from the runtime. */
async function executionOf(call: Call<{ eid: string }>, box: Box, stdin: boolean): Promise<Execution> {
  const held = call.parts.sessions.take(box.id, call.params.eid);
  return held ?? (await box.executions.attach(call.params.eid, { stdin, signal: call.signal }));
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
      const { stdin = true, utf8 = true } = call.query;
      const execution = await executionOf(call, box, stdin);
      const { sessions } = call.parts;
      return onSocket(async (outbox, inbox) => {
        const ended = await streamExecution(outbox, inbox, execution, { utf8, readOnly: !stdin });
        if (ended) sessions.ended(execution.id);
        else sessions.release(execution.id);
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
      return onSocket((outbox, inbox) => execOverSocket(box, outbox, inbox));
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
