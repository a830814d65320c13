import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NpmClient } from '../support/npm-client.js';
import { E2bStage, keys } from './stage.js';

const installMs = 300_000;

interface Made {
  readonly sandboxID: string;
  readonly envdAccessToken: string;
}

describe('watching directories of sandboxes', () => {
  let stage: E2bStage;
  beforeAll(async () => {
    stage = await E2bStage.open();
  });
  afterAll(() => stage.close());

  describe('by the client for npm', () => {
    let client: NpmClient;
    beforeAll(async () => {
      client = await NpmClient.install('e2b', '2.51.0', stage.env());
    }, installMs);

    it('streams what happens, also below, until it is stopped', async () => {
      const result = await client.run(
        `import { Sandbox } from 'e2b';`,
        `const sbx = await Sandbox.create({ timeoutMs: 120000 });
         try {
           const { files } = sbx;
           const watch = async (path, opts, act, last) => {
             const events = [];
             let seen;
             const done = new Promise((resolve) => { seen = resolve; });
             const handle = await files.watchDir(path, (event) => {
               events.push(event);
               if (event.name === last) seen();
             }, opts);
             await act();
             await done;
             await handle.stop();
             return events;
           };
           await files.write('one/a', 'old');
           const flat = await watch('one', {}, async () => {
             await files.write('one/a', 'new');
             await files.rename('one/a', 'one/b');
             await sbx.commands.run('chmod 700 one/b; mkdir one/d; touch one/d/unseen; rm one/b; mkdir one/end');
           }, 'end');
           const deep = await watch('/home/user/one', { recursive: true }, async () => {
             await files.makeDir('one/new/er');
             await files.write('one/new/er/file', 'content');
             await files.remove('one/new');
             await files.write('one/last', '');
           }, 'last');
           const missing = await files.watchDir('nothing', () => {}).catch((error) => error.name);
           const file = await files.watchDir('/etc/passwd', () => {}).catch((error) => error.name);
           const exits = [];
           await files.watchDir('one', () => {}, { timeoutMs: 500, onExit: (error) => exits.push(error?.name ?? 'none') });
           for (let i = 0; i < 100 && exits.length === 0; i += 1) await new Promise((resolve) => setTimeout(resolve, 100));
           const gone = [];
           const until = new Promise((resolve) => {
             files.watchDir('one', () => {}, { timeoutMs: 0, onExit: (error) => { gone.push(error?.name ?? 'none'); resolve(); } })
               .then(() => sbx.kill());
           });
           await until;
           const line = ({ type, name }) => type + ' ' + name;
           return { flat: flat.map(line), deep: deep.map(line), missing, file, exits, gone };
         } finally { await sbx.kill(); }`,
      );
      expect(result).toMatchObject({
        flat: ['write a', 'rename a', 'create b', 'chmod b', 'create d', 'remove b', 'create end'],
        deep: expect.arrayContaining([
          'create new',
          'create new/er',
          'create new/er/file',
          'write new/er/file',
          'remove new/er/file',
          'remove new',
        ]),
        missing: 'FileNotFoundError',
        file: 'InvalidArgumentError',
      });
      expect(result).toMatchObject({ exits: [expect.any(String)], gone: [expect.any(String)] });
    });
  });

  describe('in the polled form', () => {
    let made: Made;
    const call = async (method: string, body: object): Promise<{ status: number; json: unknown }> => {
      const answer = await fetch(`${stage.url}/filesystem.Filesystem/${method}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'connect-protocol-version': '1',
          'e2b-sandbox-id': made.sandboxID,
          'x-access-token': made.envdAccessToken,
        },
        body: JSON.stringify(body),
      });
      return { status: answer.status, json: await answer.json() };
    };
    beforeAll(async () => {
      const answer = await fetch(`${stage.url}/v2/sandboxes`, {
        method: 'POST',
        headers: { 'x-api-key': keys.owner, 'content-type': 'application/json' },
        body: JSON.stringify({ templateID: 'base' }),
      });
      made = (await answer.json()) as Made;
    });

    it('keeps events until they are asked for', async () => {
      await call('MakeDir', { path: 'polled' });
      const created = await call('CreateWatcher', { path: 'polled', recursive: true });
      expect(created).toMatchObject({ status: 200, json: { watcherId: expect.any(String) } });
      const { watcherId } = created.json as { watcherId: string };
      expect(await call('GetWatcherEvents', { watcherId })).toEqual({ status: 200, json: {} });
      await call('MakeDir', { path: 'polled/sub' });
      await call('Move', { source: 'polled/sub', destination: 'polled/other' });
      const events: unknown[] = [];
      const poll = async (): Promise<number> => {
        const { json } = await call('GetWatcherEvents', { watcherId });
        events.push(...((json as { events?: unknown[] }).events ?? []));
        return events.length;
      };
      await expect.poll(poll, { timeout: 30_000 }).toBeGreaterThanOrEqual(3);
      expect(events.filter((event) => (event as { type: string }).type !== 'EVENT_TYPE_CHMOD')).toEqual([
        { name: 'sub', type: 'EVENT_TYPE_CREATE' },
        { name: 'sub', type: 'EVENT_TYPE_RENAME' },
        { name: 'other', type: 'EVENT_TYPE_CREATE' },
      ]);
      expect(await call('RemoveWatcher', { watcherId })).toEqual({ status: 200, json: {} });
      for (const method of ['GetWatcherEvents', 'RemoveWatcher']) {
        expect(await call(method, { watcherId })).toMatchObject({ status: 404, json: { code: 'not_found' } });
      }
    });

    it('tells what is there with an event, when it is asked to', async () => {
      await call('MakeDir', { path: 'described' });
      const { json } = await call('CreateWatcher', { path: 'described', includeEntry: true });
      const { watcherId } = json as { watcherId: string };
      await call('MakeDir', { path: 'described/sub' });
      let events: unknown[] | undefined;
      await expect
        .poll(
          async () => {
            events ??= ((await call('GetWatcherEvents', { watcherId })).json as { events?: unknown[] })
              .events;
            return events;
          },
          { timeout: 30_000 },
        )
        .toBeDefined();
      expect(events?.[0]).toMatchObject({
        name: 'sub',
        type: 'EVENT_TYPE_CREATE',
        entry: { name: 'sub', path: '/home/user/described/sub', type: 'FILE_TYPE_DIRECTORY' },
      });
    });

    it('refuses what cannot be watched', async () => {
      const refused = (path: string) => call('CreateWatcher', { path });
      expect(await refused('/no/such')).toMatchObject({
        status: 404,
        json: { code: 'not_found', message: /no.such/ },
      });
      expect(await refused('/etc/passwd')).toMatchObject({ status: 400, json: { code: 'invalid_argument' } });
    });
  });
});
