import type { Execution } from '../../api/index.js';
import { executionToJson } from '../../wire/execution.js';
import { Reel } from '../reel.js';
import { boxOf, empty, notFound, ok, type Route, route } from '../route.js';
import { boxParams } from '../schemas/common.js';
import {
  execRequest,
  executionBody,
  executionParams,
  resizeRequest,
  signalRequest,
} from '../schemas/execution.js';
import { anyObject } from '../schemas/resources.js';

/** Writes a text to stdin and closes it, while the output is held for the attach. */
async function feed(execution: Execution, stdin: string): Promise<void> {
  await execution.stdin?.write(stdin);
  await execution.stdin?.end();
}

/** Commands in a box (v1 contract, sections 1.4 and 1.5). */
export const executionRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/exec',
    operation: 'startExec',
    summary: 'Run a command; its streams are at its attach',
    scope: 'box:exec',
    params: boxParams,
    body: execRequest,
    answer: { status: 201, body: anyObject },
    handle: async (call) => {
      const box = await boxOf(call);
      const { body } = call;
      const execution = await box.startExec([body.command, ...(body.args ?? [])], {
        signal: call.signal,
        env: body.env,
        cwd: body.working_dir,
        user: body.user,
        timeoutMs: body.timeout_seconds === undefined ? undefined : body.timeout_seconds * 1000,
        tty: body.tty,
        stdin: true,
      });
      call.parts.sessions.hold(box, new Reel(execution), { reap: true });
      if (body.stdin !== undefined) feed(execution, body.stdin).catch(() => undefined);
      return ok({ execution_id: execution.id }, 201);
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/executions',
    operation: 'listExecutions',
    summary: 'Commands that run, or ended in the last five minutes',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: executionBody.array() },
    handle: async (call) => {
      const all = await (await boxOf(call)).executions.list({ signal: call.signal });
      return ok(all.map(executionToJson));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/executions/:eid',
    operation: 'getExecution',
    summary: 'One command',
    scope: 'box:read',
    params: executionParams,
    answer: { status: 200, body: executionBody },
    handle: async (call) => {
      const info = await (await boxOf(call)).executions.get(call.params.eid, { signal: call.signal });
      if (!info) throw notFound('execution', call.params.eid);
      return ok(executionToJson(info));
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/executions/:eid',
    operation: 'killExecution',
    summary: 'Kill a command and all its descendants',
    scope: 'box:exec',
    params: executionParams,
    answer: { status: 204 },
    handle: async (call) => {
      await (await boxOf(call)).executions.kill(call.params.eid, { signal: call.signal });
      return empty;
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/executions/:eid/signal',
    operation: 'signalExecution',
    summary: 'Send a signal to a command',
    scope: 'box:exec',
    params: executionParams,
    body: signalRequest,
    answer: { status: 204 },
    handle: async (call) => {
      const box = await boxOf(call);
      await box.executions.signal(call.params.eid, call.body.signal, { signal: call.signal });
      return empty;
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/executions/:eid/resize',
    operation: 'resizeExecution',
    summary: "Change the size of a command's terminal",
    scope: 'box:exec',
    params: executionParams,
    body: resizeRequest,
    answer: { status: 204 },
    handle: async (call) => {
      const box = await boxOf(call);
      await box.executions.resize(call.params.eid, call.body, { signal: call.signal });
      return empty;
    },
  }),
];
