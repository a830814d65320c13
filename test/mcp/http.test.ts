import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createServer, type Scope, type Server, scopes } from '../../src/server/index.js';
import { TestEngine } from '../engine/support.js';
import { McpClient } from './clients.js';

const engine = new TestEngine();
let server: Server;
let url: string;

/** Who each key stands for. */
const keys: Readonly<Record<string, { tenant: string; scopes: readonly Scope[] }>> = {
  owner: { tenant: '', scopes },
  reader: { tenant: '', scopes: ['box:read'] },
  other: { tenant: 'acme', scopes },
};
let revoked = '';

beforeAll(async () => {
  server = createServer({
    runtimeFor: () => engine.runtime,
    authenticator: {
      authenticate: async (token) => {
        const known = token === revoked ? undefined : keys[token];
        return known ? { id: token, expiresAt: null, ...known } : null;
      },
    },
  });
  url = `${(await server.listen({ port: 0 })).url}/mcp`;
});
afterAll(async () => {
  await server.close();
});

async function connect(key: string): Promise<{ mcp: McpClient; transport: StreamableHTTPClientTransport }> {
  const requestInit = { headers: { authorization: `Bearer ${key}` } };
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit });
  return { mcp: await McpClient.connect(transport), transport };
}

describe('tools for agents over HTTP', () => {
  it('run commands in the box of the conversation', async () => {
    const { mcp, transport } = await connect('owner');
    await mcp.call('create_box', { image: 'tiny' });
    const told: number[] = [];
    const answer = await mcp.call(
      'run_command',
      { command: 'read x < /dev/zero & sleep 2; echo done' },
      {
        onprogress: ({ progress }) => told.push(progress),
      },
    );
    expect(answer.data).toMatchObject({ exitCode: 0, stdout: 'done\n' });
    expect(told[0]).toBe(1);
    await transport.terminateSession();
    // The box outlives the conversation.
    expect(await engine.runtime.list()).toHaveLength(1);
    await mcp[Symbol.asyncDispose]();
  });

  it('are those that a key lets its holder use, and publish no ports of the host', async () => {
    const { mcp } = await connect('reader');
    expect((await mcp.tools()).toSorted()).toEqual([
      'list_boxes',
      'list_files',
      'list_snapshots',
      'read_file',
    ]);
    await mcp[Symbol.asyncDispose]();
    const { mcp: full } = await connect('owner');
    expect(await full.tools()).toContain('run_command');
    expect(await full.tools()).not.toContain('publish_port');
    await full[Symbol.asyncDispose]();
  });

  it('belong to their key, and end with it', async () => {
    const { mcp, transport } = await connect('owner');
    const session = String(transport.sessionId);
    const ask = (key: string, id: string): Promise<Response> =>
      fetch(url, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${key}`,
          'mcp-session-id': id,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
      });
    expect((await ask('owner', session)).status).toBe(200);
    expect((await ask('other', session)).status).toBe(404);
    expect((await ask('owner', 'unknown')).status).toBe(404);
    const nobody = await ask('nobody', session);
    expect(nobody.status).toBe(401);
    expect(await nobody.json()).toMatchObject({
      jsonrpc: '2.0',
      error: { data: { code: 'unauthenticated' } },
    });
    revoked = 'owner';
    expect((await ask('owner', session)).status).toBe(401);
    revoked = '';
    await mcp[Symbol.asyncDispose]();
  });

  it.each([
    ['GET', undefined, 405],
    ['POST', '{', 400],
    ['POST', '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', 400],
    ['POST', '[1,2,3]', 400],
    ['DELETE', undefined, 400],
  ])('answer %s with the body %s by %s', async (method, body, status) => {
    const answer = await fetch(url, {
      method,
      headers: {
        authorization: 'Bearer owner',
        ...(body ? { 'content-type': 'application/json' } : {}),
        accept: 'application/json, text/event-stream',
      },
      ...(body ? { body } : {}),
    });
    expect(answer.status).toBe(status);
  });

  it('are not for pages of other origins', async () => {
    const answer = await fetch(url, { method: 'POST', headers: { origin: 'https://evil.example' } });
    expect(answer.status).toBe(403);
  });
});
