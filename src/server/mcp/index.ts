import { z } from 'zod';
import type { ByteSource } from '../../api/index.js';
import { type CryoboxError, catalogue } from '../../errors.js';
import type { Parts } from '../http/parts.js';
import type { Answer, Call, ForeignDialect, Route } from '../http/route.js';
import type { Conversations } from './conversations.js';

/** Code of an error that belongs to no method (JSON-RPC 2.0, section 5.1: left to servers). */
const serverError = -32_000;

/** Errors before a method is reached, as clients of the protocol read them. */
const dialect: ForeignDialect = {
  errorAnswer: ({ code, message, hint }: CryoboxError) => ({
    status: catalogue[code].status,
    body: { jsonrpc: '2.0', id: null, error: { code: serverError, message, data: { code, hint } } },
  }),
};

const common = { path: '/mcp', root: true, scope: null, answer: { status: 200 }, foreign: dialect } as const;

/**
 * The Model Context Protocol over HTTP (revision 2025-06-18, "Streamable HTTP"): one conversation a session, told apart by
 * its `Mcp-Session-Id`. Nothing is said outside of requests, so that there is no stream to `GET`.
 */
export function mcpRoutes(): Route[] {
  let conversations: Promise<Conversations> | undefined;
  // Its library is loaded when somebody speaks the protocol.
  const load = async (parts: Parts): Promise<Conversations> => {
    const { Conversations } = await import('./conversations.js');
    return new Conversations(parts);
  };
  const answer = async (call: Call, method: 'POST' | 'DELETE'): Promise<Answer> => {
    conversations ??= load(call.parts);
    const transport = await (await conversations).transportFor(call);
    const request = new Request('http://localhost/mcp', { method, headers: headersOf(call) });
    return answerOf(await transport.handleRequest(request, { parsedBody: call.body }));
  };
  return [
    {
      ...common,
      method: 'POST',
      operation: 'mcp.call',
      summary: 'A message to the tools for agents',
      body: z.unknown(),
      handle: (call) => answer(call, 'POST'),
    },
    {
      ...common,
      method: 'GET',
      operation: 'mcp.listen',
      summary: 'Messages outside of requests: there are none',
      handle: async () => ({ status: 405, headers: { allow: 'POST, DELETE' } }),
    },
    {
      ...common,
      method: 'DELETE',
      operation: 'mcp.end',
      summary: 'The end of a conversation',
      handle: (call) => answer(call, 'DELETE'),
    },
  ];
}

/** Headers that the transport looks at. */
const read = ['accept', 'content-type', 'mcp-session-id', 'mcp-protocol-version', 'last-event-id'] as const;

function headersOf({ headers }: Call): Headers {
  return new Headers(
    read.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  );
}

function answerOf(response: Response): Answer {
  const { 'content-type': contentType, ...headers } = Object.fromEntries(response.headers);
  return {
    status: response.status,
    headers,
    ...(response.body ? { bytes: response.body as unknown as ByteSource, contentType } : {}),
  };
}
