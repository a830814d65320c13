import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { E2bStage, keys } from './stage.js';

interface Made {
  readonly sandboxID: string;
  readonly envdAccessToken: string;
  readonly domain: string;
}

describe('requests of E2B', () => {
  let stage: E2bStage;
  let made: Made;

  const ask = async (
    method: string,
    path: string,
    {
      key = keys.owner,
      body,
      headers = {},
    }: { key?: string; body?: unknown; headers?: Record<string, string> } = {},
  ) => {
    const answer = await fetch(`${stage.url}${path}`, {
      method,
      headers: { 'x-api-key': key, 'content-type': 'application/json', ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    return {
      status: answer.status,
      headers: answer.headers,
      text,
      json: text.startsWith('{') ? JSON.parse(text) : text,
    };
  };
  const inside = (method: string, path: string, token: string, body?: unknown, sandbox = made.sandboxID) =>
    ask(method, path, { body, headers: { 'e2b-sandbox-id': sandbox, 'x-access-token': token } });

  beforeAll(async () => {
    stage = await E2bStage.open();
    const { status, json } = await ask('POST', '/v2/sandboxes', { body: { templateID: 'base', unknown: 1 } });
    expect(status).toBe(201);
    made = json as Made;
  });
  afterAll(() => stage.close());

  it('say where a sandbox is, so that its token goes nowhere else', () => {
    expect(made).toMatchObject({
      sandboxID: expect.stringMatching(/^i[0-9a-z]{26}$/),
      templateID: 'base',
      domain: new URL(stage.url).host.replace('127.0.0.1', 'localhost'),
      envdVersion: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      envdAccessToken: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });

  it('need a key, and show nothing of a tenant to another', async () => {
    for (const key of ['', 'e2b_00', `Bearer ${keys.owner}`]) {
      expect(await ask('GET', '/v2/sandboxes', { key })).toMatchObject({ status: 401, json: { code: 401 } });
    }
    expect((await ask('GET', '/v2/sandboxes', { key: keys.other })).text).toBe('[]');
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', '/pause'],
      ['POST', '/connect'],
    ] as const) {
      const answer = await ask(method, `/sandboxes/${made.sandboxID}${path}`, {
        key: keys.other,
        ...(method === 'POST' ? { body: {} } : {}),
      });
      expect(answer).toMatchObject({ status: 404, json: { code: 404 } });
      expect(answer.text).toContain("doesn't exist or you don't have access to it");
    }
  });

  it('are refused where they make no sense, each with its reason', async () => {
    const create = (body: unknown) => ask('POST', '/v2/sandboxes', { body });
    expect(await create({ templateID: 'no-such' })).toMatchObject({ status: 404, json: { code: 404 } });
    expect(await create({})).toMatchObject({ status: 400, json: { code: 400 } });
    expect((await create({ templateID: 'base', timeout: 0 })).text).toContain(
      'Timeout must be greater than 0',
    );
    expect((await create({ templateID: 'base', network: { dnsServers: ['1.1.1.1'] } })).text).toContain(
      'network.dnsServers',
    );
    expect((await create({ templateID: 'base', autoResume: { enabled: true } })).status).toBe(400);
    expect((await create({ templateID: 'base', metadata: { 'e2b.secure': 'false' } })).status).toBe(400);
    expect((await create({ templateID: 'base', metadata: { a: 1 } })).status).toBe(400);
    for (const id of ['x', '..', 'ibox', `${made.sandboxID}0`, 'i%00', '%2e%2e%2fv1', 'i'.repeat(300)]) {
      expect([404, 400]).toContain((await ask('GET', `/sandboxes/${id}`)).status);
    }
    expect((await ask('GET', `/sandboxes/${made.sandboxID}-client`)).status).toBe(200);
    expect(
      (await ask('POST', `/sandboxes/${made.sandboxID}/pause`, { body: { memory: false } })).status,
    ).toBe(400);
    expect((await ask('GET', '/v2/sandboxes?nextToken=zzz')).status).toBe(400);
  });

  it('into a sandbox need its token, whatever the key', async () => {
    const token = made.envdAccessToken;
    expect((await inside('GET', '/health', '')).status).toBe(204);
    for (const wrong of ['', 'x', token.slice(1), token.replace(/.$/, 'g')]) {
      expect(await inside('GET', '/files?path=/etc/passwd', wrong)).toMatchObject({
        status: 401,
        json: { code: 401 },
      });
      expect(await inside('POST', '/process.Process/List', wrong, {})).toMatchObject({
        status: 401,
        json: { code: 'unauthenticated' },
      });
    }
    expect((await inside('POST', '/process.Process/List', token, {})).text).toBe('{}');
    expect((await inside('GET', '/envs', token)).status).toBe(200);
    const id = made.sandboxID;
    expect((await ask('GET', `/sandboxes/metrics?sandbox_ids=${id},ix,x`)).json).toMatchObject({
      sandboxes: { [id]: { cpuCount: 1, memUsed: expect.any(Number) } },
    });
    const wrong = [
      ...[`/sandboxes/${id}/metrics?start=2&end=1`, `/sandboxes/${id}/metrics?start=-1`],
      ...['/sandboxes/metrics', `/sandboxes/metrics?sandbox_ids=${'x,'.repeat(100)}x`],
    ];
    for (const path of wrong) expect((await ask('GET', path)).status).toBe(400);
    expect((await inside('GET', '/metrics', token)).json).toMatchObject({ cpu_count: 1, mem_total_mib: 512 });
  });

  it('to a sandbox that is not there are answered as clients tell it by', async () => {
    const gone = `i${'0'.repeat(26)}`;
    for (const id of [gone, 'x', '..%2f', 'i']) {
      expect(await inside('GET', '/health', '', undefined, id)).toMatchObject({
        status: 502,
        json: { code: 502, message: 'The sandbox was not found' },
      });
    }
    const call = await inside('POST', '/process.Process/List', made.envdAccessToken, {}, gone);
    expect(call).toMatchObject({ status: 502, json: { code: 502 } });
  });

  it('to its methods are told errors by name', async () => {
    const token = made.envdAccessToken;
    const call = (method: string, body: unknown) => inside('POST', `/${method}`, token, body);
    expect(await call('filesystem.Filesystem/Stat', { path: '/no/such' })).toMatchObject({
      status: 404,
      json: { code: 'not_found', message: expect.stringContaining('/no/such') },
    });
    expect(
      await call('process.Process/SendSignal', { process: { pid: 4_000_000 }, signal: 'SIGNAL_SIGKILL' }),
    ).toMatchObject({
      status: 404,
      json: { code: 'not_found' },
    });
    expect(await call('filesystem.Filesystem/Stat', 'text')).toMatchObject({
      status: 400,
      json: { code: 'invalid_argument' },
    });
    expect(await call('filesystem.Filesystem/Stat', { path: '/', more: true })).toMatchObject({
      status: 200,
    });
  });

  it('end a sandbox when its time has come', async () => {
    const { json } = await ask('POST', '/v2/sandboxes', { body: { templateID: 'base', timeout: 600 } });
    const { sandboxID } = json as Made;
    const gone = (async () => {
      for await (const { id, change } of stage.engine.runtime().events()) {
        if (change === 'removed' && id.endsWith(sandboxID.slice(1))) return;
      }
    })();
    expect((await ask('POST', `/sandboxes/${sandboxID}/timeout`, { body: { timeout: 0 } })).status).toBe(204);
    await gone;
    expect((await ask('GET', `/sandboxes/${sandboxID}`)).status).toBe(404);
  });
});
