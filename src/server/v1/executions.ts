import type { z } from 'zod';
import type { Execution, ExecutionInfo } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { executionToJson } from '../../wire/execution.js';
import type { JsonObject } from '../../wire/json.js';
import { boxParams } from '../http/common-schemas.js';
import { Reel } from '../http/reel.js';
import { boxOf, type Call, empty, notFound, ok, type Route, route } from '../http/route.js';
import { runToEnd } from './run-to-end.js';
import {
  defaultOutputBytes,
  execQuery,
  execRequest,
  executionBody,
  executionParams,
  executionResult,
  resizeRequest,
  signalRequest,
  startedBody,
} from './schemas/execution.js';

/** Writes a text to stdin and closes it, while the output is held for the attach. */
async function feed(execution: Execution, stdin: string): Promise<void> {
  await execution.stdin?.write(stdin);
  await execution.stdin?.end();
}

/** What says how much is answered means nothing where nothing is waited for. */
function refuseWaitOptions(body: z.output<typeof execRequest>): void {
  for (const field of ['max_output_bytes', 'encoding'] as const) {
    if (body[field] === undefined) continue;
    throw new CryoboxError('invalid_argument', `${field} needs wait=true`, {
      hint: 'Add ?wait=true to the URL, or leave it out and read the logs of the execution.',
      details: { field },
    });
  }
}

/** A command as this server knows it: also why it was ended, when that was the server's doing. */
function told(call: Call, info: ExecutionInfo): JsonObject {
  const why = call.parts.sessions.whyEnded(info.id);
  const errorMessage = [info.errorMessage, why].filter(Boolean).join('; ');
  return executionToJson(errorMessage === '' ? info : { ...info, errorMessage });
}

/** Commands in a box (v1 contract, sections 1.4 and 1.5). */
export const executionRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/exec',
    operation: 'startExec',
    summary: 'Run a command; its streams are at its logs and its attach, and with wait=true in the answer',
    scope: 'box:exec',
    params: boxParams,
    query: execQuery,
    body: execRequest,
    answer: { status: 201, body: startedBody, others: { 200: executionResult } },
    handle: async (call) => {
      const { body, signal } = call;
      if (!call.query.wait) refuseWaitOptions(body);
      else if (body.keep !== undefined) {
        throw new CryoboxError(
          'invalid_argument',
          'keep has no meaning with wait=true: the command ends with the call',
        );
      }
      const box = await boxOf(call);
      const argv = [body.command, ...(body.args ?? [])];
      const options = {
        signal,
        env: body.env,
        cwd: body.working_dir,
        user: body.user,
        timeoutMs: body.timeout_seconds === undefined ? undefined : body.timeout_seconds * 1000,
        tty: body.tty,
      };
      if (call.query.wait) {
        const {
          stdin: input,
          max_output_bytes: maxOutputBytes = defaultOutputBytes,
          encoding = 'utf8',
        } = body;
        return ok(await runToEnd(box, argv, { ...options, input, maxOutputBytes, encoding }));
      }
      const execution = await box.startExec(argv, { ...options, stdin: true });
      call.parts.sessions.hold(box, new Reel(execution), { reap: body.keep !== true });
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
      return ok(all.map((info) => told(call, info)));
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
      return ok(told(call, info));
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
