import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installMs } from '../support/installed.js';
import { NpmClient } from '../support/npm-client.js';
import { E2bStage, keys } from './stage.js';

describe('snapshots, forks and networks of sandboxes', () => {
  let stage: E2bStage;
  let client: NpmClient;
  const run = (body: string): Promise<unknown> =>
    client.run(
      `import { Sandbox } from 'e2b';`,
      `const sbx = await Sandbox.create({ timeoutMs: 120000, metadata: { of: 'source' } });
       try { ${body} } finally { await sbx.kill(); }`,
    );
  beforeAll(async () => {
    stage = await E2bStage.open();
    client = await NpmClient.install('e2b', '2.51.0', stage.env());
  }, installMs);
  afterAll(() => stage.close());

  const ask = async (method: string, path: string, body?: unknown, key: string = keys.owner) => {
    const answer = await fetch(`${stage.url}${path}`, {
      method,
      headers: { 'x-api-key': key, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, text, json: text === '' ? null : JSON.parse(text) };
  };

  it('are taken while the sandbox goes on, listed in pages, used with their processes, and deleted', async () => {
    const result = await run(`
      await sbx.files.write('kept.txt', 'kept');
      const cat = await sbx.commands.run('cat', { background: true, stdin: true });
      const plain = await sbx.createSnapshot();
      await sbx.files.write('kept.txt', 'later');
      const named = await Sandbox.createSnapshot(sbx.sandboxId, { name: 'with-data' });
      const tagged = await sbx.createSnapshot({ name: 'with-data:two' });
      const goesOn = (await sbx.commands.run('echo on')).stdout;
      const pages = [];
      const paginator = sbx.listSnapshots({ limit: 2 });
      while (paginator.hasNext) pages.push((await paginator.nextItems()).map(({ snapshotId }) => snapshotId));
      const byName = (await Sandbox.listSnapshots({ name: 'with-data:two' }).nextItems()).map((it) => it.names);
      const of = async (id, use) => {
        const made = await Sandbox.create(id, { timeoutMs: 60000, metadata: { of: 'child' }, envs: { NEW: 'env' } });
        try { return await use(made); } finally { await made.kill(); }
      };
      const first = await of(plain.snapshotId, async (made) => {
        const { metadata, templateId } = await made.getInfo();
        const used = await Sandbox.deleteSnapshot(plain.snapshotId).catch((error) => error.message);
        return { other: made.sandboxId !== sbx.sandboxId, metadata, templateId, used,
          text: await made.files.read('kept.txt'), alive: (await made.commands.run('grep -lx cat /proc/[0-9]*/comm; echo $NEW')).stdout,
          pid: cat.pid };
      });
      const second = await of('with-data', (made) => made.files.read('kept.txt'));
      const deleted = [await Sandbox.deleteSnapshot(plain.snapshotId), await Sandbox.deleteSnapshot(plain.snapshotId)];
      const missing = await Sandbox.create(plain.snapshotId).catch((error) => error.message);
      await Sandbox.deleteSnapshot(named.snapshotId);
      const left = (await Sandbox.listSnapshots().nextItems()).map(({ snapshotId }) => snapshotId);
      await Sandbox.deleteSnapshot(tagged.snapshotId);
      return { plain, named, tagged, goesOn, pages, byName, first, second, deleted, missing, left };`);
    const { plain, first } = result as {
      plain: { snapshotId: string };
      first: { alive: string; pid: number };
    };
    expect(result).toMatchObject({
      plain: { snapshotId: expect.stringMatching(/^snapshot-[0-9a-f]{16}:default$/), names: [] },
      named: { snapshotId: 'default/with-data:default', names: ['default/with-data'] },
      tagged: { snapshotId: 'default/with-data:two', names: ['default/with-data'] },
      goesOn: 'on\n',
      pages: [['default/with-data:two', 'default/with-data:default'], [plain.snapshotId]],
      byName: [['default/with-data']],
      first: { other: true, metadata: { of: 'child' }, templateId: 'base', text: 'kept' },
      second: 'later',
      deleted: [true, false],
      missing: expect.stringContaining('not found'),
      left: ['default/with-data:two'],
    });
    expect(first.alive).toBe(`/proc/${first.pid}/comm\nenv\n`);
    expect(result).toMatchObject({
      first: { used: expect.stringContaining('while sandboxes made from it exist (1') },
    });
  });

  it('forks a sandbox with its processes', async () => {
    const result = await run(`
      await sbx.files.write('a', 'before');
      await sbx.commands.run('sleep 1000', { background: true });
      const forks = await sbx.fork({ count: 2, timeoutMs: 60000 });
      const seen = [];
      for (const fork of forks) {
        if (fork instanceof Error) throw fork;
        await fork.files.write('a', 'of ' + fork.sandboxId);
        const info = await fork.getInfo();
        seen.push({ other: fork.sandboxId !== sbx.sandboxId, metadata: info.metadata,
          seconds: Math.round((info.endAt - Date.now()) / 60000), sleeps: (await fork.commands.run('grep -lx sleep /proc/[0-9]*/comm | wc -l')).stdout });
      }
      const own = await sbx.files.read('a');
      for (const fork of forks) await fork.kill();
      await sbx.pause();
      const paused = await sbx.fork().catch((error) => error.message);
      return { seen, own, paused };`);
    const fork = { other: true, metadata: { of: 'source' }, seconds: 1, sleeps: '1\n' };
    expect(result).toMatchObject({
      seen: [fork, fork],
      own: 'before',
      paused: expect.stringContaining('does not run'),
    });
  });

  it('changes what a sandbox that runs may connect to', async () => {
    const result = await run(`
      const lookUp = async () => (await sbx.commands.run('getent ahostsv4 no-such-name.test; echo done')).stdout;
      await lookUp();
      const network = async () => { const { network, allowInternetAccess } = await sbx.getInfo();
        return [network.allowOut, network.denyOut, allowInternetAccess]; };
      const at = await network();
      await sbx.updateNetwork({ allowOut: ['example.test', '192.0.2.7'], denyOut: ['0.0.0.0/0'] });
      const listed = await network();
      await sbx.updateNetwork({ denyOut: ['198.51.100.0/24'] });
      const denied = await network();
      await sbx.updateNetwork({ denyOut: ['0.0.0.0/0'] });
      const closed = await network();
      const refused = await sbx.commands.run('exec 3<>/dev/tcp/192.0.2.7/80').catch((error) => error.exitCode);
      await sbx.updateNetwork({});
      const open = await network();
      const wrong = [];
      for (const update of [{ allowOut: ['a.test'] }, { denyOut: ['a.test'] }, { allowOut: ['1.1.1.1'], denyOut: ['1.1.1.0/24'] }])
        wrong.push(await sbx.updateNetwork(update).then(() => 'done', (error) => error.message));
      await sbx.pause();
      const paused = await sbx.updateNetwork({}).catch((error) => error.name);
      return { at, listed, denied, closed, refused, open, wrong, paused };`);
    expect(result).toMatchObject({
      at: [null, null, true],
      listed: [['example.test', '192.0.2.7'], ['0.0.0.0/0'], true],
      denied: [null, ['198.51.100.0/24'], true],
      closed: [null, ['0.0.0.0/0'], false],
      refused: 1,
      open: [null, null, true],
      wrong: [
        expect.stringContaining('a.test'),
        expect.stringContaining('a name cannot be denied'),
        expect.stringContaining('not supported'),
      ],
      paused: expect.stringContaining('NotFound'),
    });
  });

  it('are one tenant’s, and their names are checked', async () => {
    const { json } = await ask('POST', '/v2/sandboxes', { templateID: 'base' });
    const id = json.sandboxID as string;
    const snapshots = `/sandboxes/${id}/snapshots`;
    for (const name of ['', 'a/b/c', 'a b', '../x', 'x:y:z', 'other/x', 'x'.repeat(200), 'ä', 'a\u0000']) {
      expect(await ask('POST', snapshots, { name })).toMatchObject({ status: 400, json: { code: 400 } });
    }
    expect((await ask('POST', snapshots, { memory: false })).status).toBe(400);
    expect((await ask('POST', snapshots, { name: 'Mine:V1' }, keys.other)).status).toBe(404);
    const taken = await ask('POST', snapshots, { name: 'Mine:V1' });
    expect(taken).toMatchObject({ status: 201, json: { snapshotID: 'default/mine:v1' } });
    const again = await ask('POST', snapshots, { name: 'default/mine:v1' });
    expect(again.status).toBe(201);
    expect((await ask('GET', '/snapshots')).json).toEqual([again.json]);
    expect((await ask('GET', '/snapshots?sandboxID=inone')).json).toEqual([]);
    expect((await ask('GET', '/snapshots?nextToken=zzz')).status).toBe(400);
    expect((await ask('GET', '/snapshots', undefined, keys.other)).json).toEqual([]);
    const path = `/templates/${encodeURIComponent('default/mine:v1')}`;
    expect((await ask('DELETE', path, undefined, keys.other)).status).toBe(404);
    const foreign = await ask('POST', '/v2/sandboxes', { templateID: 'mine:v1' }, keys.other);
    expect(foreign.status).toBe(404);
    expect((await ask('DELETE', path)).status).toBe(204);
    expect((await ask('DELETE', path)).status).toBe(404);
    for (const count of [0, 101, 1.5, 'x']) {
      expect((await ask('POST', `/sandboxes/${id}/fork`, { count })).status).toBe(400);
    }
    expect((await ask('POST', `/sandboxes/${id}/fork`, {}, keys.other)).status).toBe(404);
    expect((await ask('DELETE', `/sandboxes/${id}`)).status).toBe(204);
  });
});
