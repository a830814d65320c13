import type { Box, Execution } from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { logStreams } from '../../wire/log.js';
import { ndjson } from '../../wire/media.js';
import { endId, executionOf, logItems } from '../http/follow-logs.js';
import { eventStream, lastEventId, liveText, wantsEvents } from '../http/live-text.js';
import { boxOf, type Call, empty, ok, type Route, route } from '../http/route.js';
import { executionLogsQuery, executionParams, logLine, stdinQuery, stdinTaken } from './schemas/execution.js';

/** Where a client goes on: what it asks for, else what its EventSource saw last. */
function positionOf(
  { stdout_at: stdout, stderr_at: stderr }: { stdout_at?: number; stderr_at?: number },
  last: string | undefined,
): { stdout: number; stderr: number } {
  const seen = /^(\d{1,15})\.(\d{1,15})$/.exec(last ?? '');
  return { stdout: stdout ?? Number(seen?.[1] ?? 0), stderr: stderr ?? Number(seen?.[2] ?? 0) };
}

/** Writes an upload to the stdin of a command; gives the bytes that it took. */
async function writeAll(
  { stdin, id }: Execution,
  { upload, query, signal }: Call<unknown, { readonly eof?: boolean }>,
): Promise<number> {
  if (!stdin) throw new CryoboxError('invalid_state', `execution ${id} has no stdin`);
  let bytes = 0;
  for await (const chunk of upload) {
    await abortable(stdin.write(chunk), signal);
    bytes += chunk.length;
  }
  if (query.eof) await abortable(stdin.end(), signal);
  return bytes;
}

/** Attaches to a command only to write to it. */
async function writeDetached(
  box: Box,
  id: string,
  task: (execution: Execution) => Promise<number>,
): Promise<number> {
  try {
    await using execution = await box.executions.attach(id, { stdin: true });
    return await task(execution);
  } catch (error) {
    if (!isCryoboxError(error, 'conflict')) throw error;
    throw new CryoboxError('conflict', `somebody is attached to execution ${id}`, {
      cause: error,
      hint: 'Write by that connection, or let go of it first.',
    });
  }
}

/** Output and input of a command by plain requests. */
export const logRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/executions/:eid/logs',
    operation: 'getExecutionLogs',
    summary:
      'What a command has written, and with follow=true what it writes: lines of JSON, or server-sent events',
    scope: 'box:read',
    params: executionParams,
    query: executionLogsQuery,
    answer: { status: 200, body: { [ndjson]: logLine, [eventStream]: logLine } },
    passive: true,
    handle: async (call) => {
      const { params, query, principal, parts, signal } = call;
      const last = lastEventId(call.headers);
      // An EventSource connects again after the end, too, unless it is told that there is nothing.
      if (last === endId) return empty;
      const box = await boxOf(call);
      await executionOf(box, params.eid, signal);
      const items = logItems({
        box,
        executionId: params.eid,
        from: positionOf(query, last),
        encoding: query.encoding ?? 'utf8',
        streams: query.output ? [query.output] : logStreams,
        follow: query.follow ?? false,
        takes: principal.scopes.includes('box:exec'),
        signal,
        parts,
      });
      const sse = wantsEvents(call.headers.accept);
      return {
        bytes: liveText(items, sse),
        contentType: sse ? eventStream : ndjson,
        headers: { 'cache-control': 'no-store' },
      };
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/executions/:eid/stdin',
    operation: 'writeStdin',
    summary: 'Write to the stdin of a command; eof=true closes it after that',
    scope: 'box:exec',
    params: executionParams,
    query: stdinQuery,
    body: 'bytes',
    answer: { status: 200, body: stdinTaken },
    handle: async (call) => {
      const { params, parts, signal } = call;
      const box = await boxOf(call);
      const info = await executionOf(box, params.eid, signal);
      if (info.status !== 'running') {
        throw new CryoboxError('invalid_state', `execution ${params.eid} has ended`, {
          details: { execution: params.eid, status: info.status },
        });
      }
      const write = (execution: Execution): Promise<number> => writeAll(execution, call);
      const bytes =
        (await parts.sessions.borrow(box.id, params.eid, ({ execution }) => write(execution))) ??
        (await writeDetached(box, params.eid, write));
      return ok({ bytes, eof: call.query.eof ?? false });
    },
  }),
];
