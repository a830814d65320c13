import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { ApiKeys } from '../../src/home/keys.js';
import { type ServedHome, serveHttp } from '../../src/home/serve-http.js';
import { connectRuntime } from '../../src/remote/index.js';
import { routes } from '../../src/server/v1/index.js';
import { freePort } from '../image/support/registry.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
let served: ServedHome;
let owner: Runtime;
let box: Box;
let readKey = '';
let execKey = '';

beforeAll(async () => {
  home = await newHome();
  await using keys = await ApiKeys.open(home.path);
  const { key } = await keys.create();
  const reading = ['box:read', 'image:read', 'template:read', 'volume:read', 'me:read'];
  readKey = (await keys.create({ scopes: reading })).key;
  execKey = (await keys.create({ scopes: ['box:read', 'box:exec'] })).key;
  served = await serveHttp({ home: home.path, poolSize: 0, listen: { port: await freePort() } });
  owner = connectRuntime({ url: served.address.url, apiKey: key });
  box = await owner.create({ image: 'tiny', name: 'kept', detach: true, env: { SECRET_TOKEN: 'v4lue' } });
});

afterAll(async () => {
  await box.remove({ force: true });
  await owner.close();
  await served.close();
  await home[Symbol.asyncDispose]();
});

/** Asks everything a reader may be let in for, of the box. */
async function askAll(): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const { method, path, root, operation, body } of routes) {
    // What follows events ends only when the client goes.
    if (operation === 'streamEvents') continue;
    const target = (root ? '' : '/v1') + path.replace(':id', 'kept').replaceAll(/:(\w+)/g, 'x');
    const query = /\/files|archive|packed/.test(path) ? '?path=/etc' : '';
    const headers = {
      authorization: `Bearer ${readKey}`,
      ...(body ? { 'content-type': 'application/json' } : {}),
    };
    const answer = await fetch(`${served.address.url}${target}${query}`, {
      method,
      headers,
      ...(body ? { body: JSON.stringify(operation === 'exportBox' ? { memory: true } : {}) } : {}),
    });
    await answer.arrayBuffer();
    found[operation] = answer.status;
  }
  return found;
}

describe('a key that may only read', () => {
  it.each(['stopped', 'paused'] as const)(
    'leaves a box that is %s as it is, whatever it asks',
    async (status) => {
      if (status === 'stopped') await box.stop();
      else {
        await box.start();
        await box.pause();
      }
      const before = await box.info();
      expect(before.status).toBe(status);
      const answers = await askAll();
      const { statFile, listFiles, packFiles, exportBox, startBox, resumeBox } = answers;
      expect({ statFile, listFiles, packFiles, exportBox, startBox, resumeBox }).toEqual({
        statFile: 403,
        listFiles: 403,
        packFiles: 403,
        exportBox: 403,
        startBox: 403,
        resumeBox: 403,
      });
      expect(Object.entries(answers).filter(([, code]) => code >= 500)).toEqual([]);
      // The pause itself is an activity, which may end a moment after it was answered.
      const { lastActivityAt: _, ...after } = await box.info();
      const { lastActivityAt: __, ...unchanged } = before;
      expect(after).toEqual(unchanged);
      await using reader = connectRuntime({ url: served.address.url, apiKey: readKey });
      await expect((await reader.get('kept'))?.files.stat('/etc')).rejects.toMatchObject({
        code: 'permission_denied',
        hint: expect.stringContaining('box:write'),
      });
    },
  );

  it('reads a running box, and sees no values of its environment', async () => {
    await box.resume();
    await using reader = connectRuntime({ url: served.address.url, apiKey: readKey });
    const seen = await reader.get('kept');
    expect(await seen?.files.list('/')).not.toEqual([]);
    expect((await seen?.info())?.env['SECRET_TOKEN']).toBe('***');
    expect(JSON.stringify(await reader.list())).not.toContain('v4lue');
    expect((await box.info()).env['SECRET_TOKEN']).toBe('v4lue');
  });

  it('is not one that may run commands: that one brings the box up', async () => {
    await box.stop();
    await using runner = connectRuntime({ url: served.address.url, apiKey: execKey });
    const found = await runner.get('kept');
    expect(await found?.files.list('/')).not.toEqual([]);
    expect((await box.info()).status).toBe('running');
  });
});
