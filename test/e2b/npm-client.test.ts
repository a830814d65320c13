import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NpmClient } from '../support/npm-client.js';
import { E2bStage } from './stage.js';

const installMs = 300_000;

describe('the client of E2B for npm', () => {
  let stage: E2bStage;
  beforeAll(async () => {
    stage = await E2bStage.open();
  });
  afterAll(() => stage.close());

  describe.each(['2.51.0', '2.45.0'])('%s', (version) => {
    let client: NpmClient;
    /** Runs a program with a sandbox `sbx` of its own, which is killed at its end. */
    const run = (body: string): Promise<unknown> =>
      client.run(
        `import { Sandbox } from 'e2b';`,
        `const sbx = await Sandbox.create({ timeoutMs: 120000, metadata: { of: 'a test' } });
         try { ${body} } finally { await sbx.kill(); }`,
      );
    beforeAll(async () => {
      client = await NpmClient.install('e2b', version, stage.env());
    }, installMs);

    it('runs commands, with their output, exit codes and environment', async () => {
      const result = await run(`
        const streamed = [];
        const hello = await sbx.commands.run('echo hello; echo problem >&2', {
          onStdout: (text) => streamed.push(text), onStderr: (text) => streamed.push(text) });
        const who = await sbx.commands.run('whoami; pwd; echo $HOME $USER $A $E2B_SANDBOX', { envs: { A: 'b' } });
        const root = await sbx.commands.run('whoami', { user: 'root', cwd: '/tmp' });
        const failed = await sbx.commands.run('exit 3').catch((error) => [error.name, error.exitCode]);
        const nowhere = await sbx.commands.run('true', { cwd: '/no/such' }).catch((error) => error.message);
        const late = await sbx.commands.run('sleep 60', { timeoutMs: 500 }).catch((error) => error.name);
        return { hello, streamed: streamed.sort(), who: who.stdout, root: root.stdout, failed, nowhere, late };`);
      expect(result).toMatchObject({
        hello: { exitCode: 0, stdout: 'hello\n', stderr: 'problem\n' },
        streamed: ['hello\n', 'problem\n'],
        who: 'user\n/home/user\n/home/user user b true\n',
        root: 'root\n',
        failed: ['CommandExitError', 3],
        nowhere: expect.stringContaining("'/no/such'"),
        late: 'TimeoutError',
      });
    });

    it('leaves commands in the background, and finds, feeds and kills them', async () => {
      const result = await run(`
        const cat = await sbx.commands.run('cat', { background: true, stdin: true });
        const listed = (await sbx.commands.list()).map(({ pid, args }) => [pid === cat.pid, args.at(-1)]);
        const alive = await sbx.commands.run('kill -0 ' + cat.pid);
        const texts = [];
        const second = await sbx.commands.connect(cat.pid, { onStdout: (text) => texts.push(text) });
        await sbx.commands.sendStdin(cat.pid, 'some input\\n');
        await sbx.commands.closeStdin?.(cat.pid);
        const [first, again] = await Promise.all([cat.wait(), second.wait()]);
        const sleep = await sbx.commands.run('sleep 100', { background: true });
        const killed = await sbx.commands.kill(sleep.pid);
        const ended = await sleep.wait().catch((error) => [error.exitCode, error.error]);
        const gone = await sbx.commands.kill(sleep.pid);
        return { listed, alive: alive.exitCode, first: first.stdout, again: again.stdout, texts, killed, ended, gone };`);
      expect(result).toEqual({
        listed: [[true, 'cat']],
        alive: 0,
        first: 'some input\n',
        again: 'some input\n',
        texts: ['some input\n'],
        killed: true,
        ended: [-1, 'signal: killed'],
        gone: false,
      });
    });

    it('tells what it used, within a window of time', async () => {
      const result = await run(`
        const metrics = await sbx.getMetrics();
        const one = metrics.at(-1);
        const later = new Date(Date.now() + 3600_000);
        const none = await sbx.getMetrics({ start: later, end: later });
        return { one, count: metrics.length, none };`);
      expect(result).toMatchObject({
        one: { cpuCount: 1, memTotal: 512 * 1024 ** 2, memUsed: expect.any(Number) },
        none: [],
      });
      expect((result as { count: number }).count).toBeGreaterThan(0);
    });

    it('has a terminal', async () => {
      const result = await run(`
        let text = '';
        const decoder = new TextDecoder();
        const pty = await sbx.pty.create({ cols: 91, rows: 33, onData: (data) => { text += decoder.decode(data); } });
        await sbx.pty.resize(pty.pid, { cols: 81, rows: 23 });
        await sbx.pty.sendInput(pty.pid, new TextEncoder().encode('stty size; exit\\n'));
        const { exitCode } = await pty.wait();
        return { exitCode, text };`);
      expect(result).toMatchObject({ exitCode: 0, text: expect.stringContaining('23 81') });
    });

    it('writes, reads, lists, renames and removes files', async () => {
      const result = await run(`
        const { files } = sbx;
        const info = await files.write('notes/a.txt', 'content');
        await files.write([{ path: '/tmp/x/one', data: 'one' }, { path: 'two', data: new Uint8Array([1, 2]).buffer }]);
        const text = await files.read('notes/a.txt');
        const bytes = [...await files.read('two', { format: 'bytes' })];
        const owner = await sbx.commands.run('stat -c "%U %G" notes notes/a.txt /tmp/x /tmp/x/one');
        const made = [await files.makeDir('deep/er'), await files.makeDir('deep/er')];
        await files.rename('two', 'deep/two');
        const tree = (await files.list('.', { depth: 3 })).map(({ path, type }) => path + ' ' + type)
          .filter((line) => !line.includes('/.'));
        const facts = await files.getInfo('notes/a.txt');
        const exists = [await files.exists('deep/two'), await files.exists('two')];
        await files.remove('deep');
        const after = await files.exists('deep');
        const missing = await files.read('nothing').catch((error) => [error.name, error.message]);
        const directory = await files.read('notes').catch((error) => error.name);
        return { info, text, bytes, owner: owner.stdout, made, tree, facts, exists, after, missing, directory };`);
      expect(result).toMatchObject({
        info: { name: 'a.txt', path: '/home/user/notes/a.txt', type: 'file' },
        text: 'content',
        bytes: [1, 2],
        owner: 'user user\n'.repeat(4),
        made: [true, false],
        tree: [
          '/home/user/deep dir',
          '/home/user/deep/er dir',
          '/home/user/deep/two file',
          '/home/user/notes dir',
          '/home/user/notes/a.txt file',
        ],
        facts: {
          name: 'a.txt',
          type: 'file',
          size: 7,
          owner: 'user',
          group: 'user',
          permissions: '-rw-r--r--',
        },
        exists: [true, false],
        after: false,
        missing: ['FileNotFoundError', expect.stringContaining("path '/home/user/nothing' does not exist")],
        directory: expect.any(String),
      });
    });

    it('is told of its sandbox, changes its end, and kills it', async () => {
      const result = await run(`
        const info = await sbx.getInfo();
        await sbx.setTimeout(600000);
        const later = await sbx.getInfo();
        const listed = [];
        const pages = Sandbox.list({ query: { metadata: { of: 'a test' } }, limit: 1 });
        while (pages.hasNext) listed.push(...await pages.nextItems());
        const none = await Sandbox.list({ query: { metadata: { of: 'nothing' } } }).nextItems();
        const running = await sbx.isRunning();
        const killed = await sbx.kill();
        const again = await sbx.kill();
        const after = await sbx.isRunning();
        const gone = await Sandbox.connect(sbx.sandboxId).catch((error) => error.name);
        return {
          id: info.sandboxId === sbx.sandboxId, template: info.templateId, metadata: info.metadata, state: info.state,
          seconds: Math.round((later.endAt - info.endAt) / 10000) * 10,
          listed: listed.map(({ sandboxId }) => sandboxId === sbx.sandboxId), none: none.length,
          running, killed, again, after, gone };`);
      expect(result).toEqual({
        id: true,
        template: 'base',
        metadata: { of: 'a test' },
        state: 'running',
        seconds: 480,
        listed: [true],
        none: 0,
        running: true,
        killed: true,
        again: false,
        after: false,
        gone: expect.stringMatching(/NotFound/),
      });
    });

    it('pauses with its processes, and goes on', async () => {
      const result = await run(`
        const cat = await sbx.commands.run('cat', { background: true, stdin: true });
        const paused = await sbx.pause();
        const { state } = await sbx.getInfo();
        const running = await sbx.isRunning();
        const again = await sbx.pause();
        const same = await Sandbox.connect(sbx.sandboxId, { timeoutMs: 60000 });
        const heard = [];
        const joined = await same.commands.connect(cat.pid, { onStdout: (text) => heard.push(text) });
        await same.commands.sendStdin(cat.pid, 'still here');
        await same.commands.closeStdin?.(cat.pid);
        await joined.wait();
        return { paused, state, running, again, heard };`);
      expect(result).toEqual({
        paused: true,
        state: 'paused',
        running: false,
        again: false,
        heard: ['still here'],
      });
    });
  });
});
