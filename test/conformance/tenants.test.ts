import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRuntime } from '../../dist/remote/index.js';
import { createServer, type Principal, type Server, scopes } from '../../dist/server/index.js';
import type { Box, Runtime, RuntimeEvent } from '../../src/api/index.js';
import { Stage } from './support.js';

describe('a tenant', () => {
  let stage: Stage;
  let server: Server;
  let ours: Runtime;
  let theirs: Runtime;
  let box: Box;
  let url: string;

  beforeAll(async () => {
    stage = await Stage.open();
    const who = (tenant: string): Principal => ({ id: tenant, tenant, scopes, expiresAt: null });
    server = createServer({
      runtimeFor: (tenant) => stage.engine.runtime(tenant),
      authenticator: { authenticate: async (token) => (token === '' ? null : who(token)) },
    });
    url = (await server.listen({ port: 0 })).url;
    // The owner of the home is the tenant without a name, which has the images of the home.
    ours = connectRuntime({ url: stage.keyedUrl, apiKey: 'owner' });
    theirs = connectRuntime({ url, apiKey: 'stranger', prefix: 'stranger' });
    box = await ours.create({ image: 'tiny', name: 'mine', detach: true });
    await box.snapshot.create('snap', { memory: true });
    await ours.templates.create({ box: 'mine', name: 'template' });
  });

  afterAll(async () => {
    await ours.templates.remove('template');
    await ours.close();
    await theirs.close();
    await server.close();
    await stage.close();
  });

  const missing = { code: 'not_found' };

  it('sees no box, snapshot, template or image of another in a list', async () => {
    expect(await theirs.list()).toEqual([]);
    expect(await theirs.templates.list()).toEqual([]);
    expect(await theirs.images.list()).toEqual([]);
    expect(await theirs.tree()).toEqual([]);
    expect((await theirs.metrics()).boxesCreatedTotal).toBe(0);
    expect((await ours.images.list()).length).toBeGreaterThan(0);
  });

  it('finds none by name, id or beginning of the id, whatever it wants of it', async () => {
    for (const name of ['mine', box.id, box.id.slice(0, -2)]) {
      expect(await theirs.get(name)).toBeNull();
      await expect(theirs.remove(name, { force: true })).rejects.toMatchObject(missing);
      await expect(theirs.templates.create({ box: name })).rejects.toMatchObject(missing);
    }
    expect(await theirs.templates.get('template')).toBeNull();
    await expect(theirs.templates.remove('template')).rejects.toMatchObject(missing);
    await expect(theirs.create({ template: 'template' })).rejects.toMatchObject(missing);
    expect(await theirs.images.get('tiny')).toBeNull();
    await expect(theirs.images.remove('tiny', { force: true })).rejects.toMatchObject({
      code: 'image_not_found',
    });
    expect(await theirs.images.prune()).toEqual([]);
  });

  it('gets 404 on every route of a box that is another’s', async () => {
    const document = (await (await fetch(`${url}/v1/openapi.json`)).json()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const paths = Object.keys(document.paths).filter((path) => path.startsWith('/v1/boxes/{id}'));
    expect(paths.length).toBeGreaterThan(20);
    const bodies: Record<string, object> = {
      exec: { command: 'true' },
      signal: { signal: 2 },
      ports: { guest_port: 80 },
      previews: { port: 80 },
      inbound: { mode: 'enabled' },
      outbound: { mode: 'disabled' },
      resize: { cols: 80, rows: 24 },
      snapshots: { name: 'x' },
      fork: { count: 1 },
      directory: { path: '/x' },
      'files/rename': { from: '/x', to: '/y' },
      '{id}/rename': { name: 'other' },
      '{id}/lifetime': { seconds: 1, action: 'remove' },
    };
    for (const path of paths) {
      for (const method of Object.keys(document.paths[path] ?? {})) {
        const last = path.split('/').at(-1) ?? '';
        const body = bodies[path.split('/').slice(-2).join('/')] ?? bodies[last] ?? {};
        const target = path
          .replace('{id}', box.id)
          .replace('{name}', 'snap')
          .replace('{eid}', 'exe_none')
          .replace('{port}', '80');
        const query = /files|tunnel/.test(path) && !/directory|rename/.test(path) ? '?path=/etc/passwd' : '';
        const answer = await fetch(`${url}${target}${last === 'tunnel' ? '?port=80' : query}`, {
          method: method.toUpperCase(),
          headers: { authorization: 'Bearer stranger', 'content-type': 'application/json' },
          body: ['post', 'put'].includes(method) ? JSON.stringify(body) : undefined,
        });
        await answer.arrayBuffer();
        // WebSocket routes ask for an upgrade first.
        const upgrade = /attach$|\/exec$|ports\/\{port\}$/.test(path) && method === 'get';
        expect([method, path, answer.status]).toEqual([method, path, upgrade ? 400 : 404]);
      }
    }
    expect((await box.info()).status).toBe('running');
    expect((await box.snapshot.list()).length).toBe(1);
  });

  it('hears of its own changes only', async () => {
    const stop = new AbortController();
    const heard: RuntimeEvent[] = [];
    const listening = (async () => {
      for await (const event of theirs.events({ signal: stop.signal })) heard.push(event);
    })();
    const own: RuntimeEvent[] = [];
    const until = (async () => {
      for await (const event of ours.events({ signal: stop.signal })) {
        own.push(event);
        if (event.change === 'stopped') return;
      }
    })();
    // An answer over the same server means that the listeners are there.
    await Promise.all([theirs.list(), ours.list()]);
    await box.exec(['true']);
    await box.stop();
    await until;
    stop.abort();
    await listening;
    expect(own.length).toBeGreaterThan(0);
    expect(heard).toEqual([]);
    for (const event of own)
      expect(Object.keys(event).sort()).toEqual(['at', 'change', 'id', 'kind', 'position']);
    await box.start();
  });

  it('may use the names another uses', async () => {
    const archive = await box.exportStream();
    const theirBox = await theirs.import(archive, { name: 'mine' });
    expect(theirBox.id).not.toBe(box.id);
    expect((await theirs.list()).map(({ name }) => name)).toEqual(['mine']);
    expect((await ours.list()).map(({ id }) => id)).toEqual([box.id]);
    await theirBox.remove({ force: true });
  });
});
