import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';
import { McpClient } from './clients.js';

let home: TestHome;
let mcp: McpClient;
let runtime: Runtime;

beforeAll(async () => {
  home = await newHome();
  mcp = await McpClient.overStdio(home.path, '--network', 'none', '--memory', '512m', '--box', 'agent');
  runtime = connectRuntime({ socketPath: `${home.path}/engine.sock` });
});
afterAll(async () => {
  await mcp[Symbol.asyncDispose]();
  for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  await runtime.close();
  await runCli(home.path, 'engine', 'stop');
  await home[Symbol.asyncDispose]();
});

describe('tools for agents over standard streams', () => {
  it('are all offered, each with what it does to a box', async () => {
    const { tools } = await mcp.client.listTools();
    const by = (hint: 'readOnlyHint' | 'destructiveHint'): string[] =>
      tools.filter(({ annotations }) => annotations?.[hint]).map(({ name }) => name);
    expect(by('readOnlyHint').toSorted()).toEqual(
      ['list_boxes', 'list_files', 'list_snapshots', 'read_file', 'read_output', 'search_files'].toSorted(),
    );
    expect(by('destructiveHint').toSorted()).toEqual(['remove_box', 'rollback', 'stop_command']);
    for (const { description, inputSchema } of tools) {
      expect(description?.length).toBeGreaterThan(20);
      expect(inputSchema).toMatchObject({ type: 'object', additionalProperties: false });
    }
  });

  it('make one box for the conversation, as its flags say', async () => {
    expect((await mcp.call('read_file', { path: '/etc/hostname' })).text).toMatch(/^not_found: /);
    expect(await mcp.call('run_command', { command: 'echo out; echo err >&2; exit 3' })).toMatchObject({
      failed: false,
      data: { exitCode: 3, stdout: 'out\n', stderr: 'err\n' },
    });
    const [info, ...others] = await runtime.list();
    expect(others).toEqual([]);
    expect(info).toMatchObject({
      name: 'agent',
      memoryMiB: 512,
      network: { outbound: 'disabled' },
      autoStopAction: 'pause',
      autoDelete: 86_400,
      detach: true,
    });
  });

  it('run Python, and tell what is wrong with it', async () => {
    expect((await mcp.call('run_python', { code: 'print(6 * 7)' })).data).toMatchObject({ stdout: '42\n' });
    const failed = await mcp.call('run_python', { code: 'x = 1 / 0' });
    expect(failed.text).toContain('ZeroDivisionError');
    expect(failed.data).toMatchObject({ exitCode: 1 });
  });

  it('cut long output in its middle, and say how much', async () => {
    const { text, data } = await mcp.call('run_command', { command: 'echo first; seq 100000; echo last' });
    expect(text.length).toBeLessThan(40_000);
    expect(text).toMatch(/^first\n/);
    expect(text).toMatch(/\[\.\.\. \d+ bytes cut \.\.\.\]/);
    expect(text).toContain('\nlast\n');
    const { stdout } = data['cutBytes'] as { stdout: number };
    expect(stdout).toBeGreaterThan(500_000);
  });

  it('write, read, list and search files', async () => {
    const content = 'one\ntwo é\nthree\n';
    await mcp.call('write_file', { path: '/work/a/text', content });
    await mcp.call('write_file', { path: '/work/bytes', content: '/wD+', encoding: 'base64' });
    expect((await mcp.call('read_file', { path: '/work/a/text' })).data).toMatchObject({
      content,
      next: null,
    });
    const piece = await mcp.call('read_file', { path: '/work/a/text', offset: 4, limit: 3 });
    expect(piece.data).toMatchObject({ content: 'two', next: 7 });
    const bytes = await mcp.call('read_file', { path: '/work/bytes', encoding: 'base64' });
    expect(bytes.data).toMatchObject({ content: '/wD+', bytes: 3 });
    expect((await mcp.call('list_files', { path: '/work' })).data).toMatchObject({
      entries: [
        { path: '/work/a', type: 'directory' },
        { path: '/work/bytes', sizeBytes: 3 },
      ],
    });
    expect((await mcp.call('search_files', { path: '/work', pattern: '^t(wo|h)' })).data).toMatchObject({
      lines: ['/work/a/text:2:two é', '/work/a/text:3:three'],
    });
    expect((await mcp.call('search_files', { path: '/work', pattern: 'nowhere' })).text).toBe(
      'nothing matches',
    );
    for (const [name, input] of [
      ['write_file', { path: '/x', content: 'no base64!', encoding: 'base64' }],
      ['search_files', { path: '/no/such', pattern: 'x' }],
      ['read_file', { path: '/no/such' }],
      ['list_files', { path: '/no/such' }],
    ] as const) {
      expect(await mcp.call(name, input)).toMatchObject({
        failed: true,
        text: expect.stringMatching(/^\w+: /),
      });
    }
  });

  it('start, read and stop commands in the background', async () => {
    const { data } = await mcp.call('start_command', { command: 'echo begun; exec sleep 1000' });
    const { id } = data as { id: string };
    await expect
      .poll(async () => (await mcp.call('read_output', { id })).data, { timeout: 20_000 })
      .toMatchObject({ running: true, stdout: 'begun\n' });
    expect((await mcp.call('stop_command', { id })).data).toMatchObject({ running: false, signal: 9 });
    expect((await mcp.call('read_output', { id: 'other' })).text).toMatch(/^not_found: /);
    const short = (await mcp.call('start_command', { command: 'echo done; exit 4' })).data as { id: string };
    expect((await mcp.call('read_output', { id: short.id, waitMs: 20_000 })).data).toMatchObject({
      running: false,
      exitCode: 4,
      stdout: 'done\n',
    });
  });

  it('roll back files and programs to a snapshot', async () => {
    await mcp.call('write_file', { path: '/root/kept', content: 'before' });
    await mcp.call('run_command', { command: 'sleep 1234 > /dev/null 2>&1 & echo $! > /root/pid' });
    await mcp.call('snapshot', { name: 'point' });
    await mcp.call('run_command', { command: 'kill -9 $(cat /root/pid); echo ruined > /root/kept' });
    expect((await mcp.call('list_snapshots')).data).toMatchObject({
      snapshots: [{ name: 'point', memory: true }],
    });
    await mcp.call('rollback', { name: 'point' });
    expect(
      (await mcp.call('run_command', { command: 'cat /root/kept; cat /proc/$(cat /root/pid)/comm' })).data,
    ).toMatchObject({
      stdout: 'beforesleep\n',
    });
    expect((await mcp.call('rollback', { name: 'other' })).text).toMatch(/^not_found: /);
  });

  it('fork a box, run a command in each copy, and leave the box as it was', async () => {
    await mcp.call('write_file', { path: '/root/number', content: '5' });
    const { data } = await mcp.call('fork', {
      commands: [
        'expr $(cat /root/number) + 1 > /root/next; cat /root/next',
        'expr $(cat /root/number) \\* 2',
        'exit 9',
      ],
    });
    expect(data).toMatchObject({
      kept: false,
      results: [{ stdout: '6\n' }, { stdout: '10\n' }, { exitCode: 9 }],
    });
    expect((await mcp.call('read_file', { path: '/root/number' })).text).toBe('5');
    expect(await runtime.list()).toHaveLength(1);
  });

  it('publish a port on the loopback of the host', async () => {
    const server =
      'import http.server as s; s.HTTPServer(("127.0.0.1", 8000), s.SimpleHTTPRequestHandler).serve_forever()';
    await mcp.call('start_command', {
      command: `echo served > page && exec python3 -c '${server}'`,
      cwd: '/tmp',
    });
    const { url } = (await mcp.call('publish_port', { port: 8000 })).data as { url: string };
    await expect
      .poll(async () => await fetch(`${url}/page`).then((answer) => answer.text(), String), {
        timeout: 30_000,
      })
      .toBe('served\n');
    expect((await mcp.call('publish_port', { port: 8000 })).data).toMatchObject({ url });
  });

  it('give files and consoles as resources', async () => {
    const { resourceTemplates } = await mcp.client.listResourceTemplates();
    expect(resourceTemplates.map(({ name }) => name)).toEqual(['file', 'console']);
    const { contents } = await mcp.client.readResource({ uri: 'cryobox://agent/files/root/number' });
    expect(contents).toMatchObject([{ text: '5' }]);
    await mcp.client.readResource({ uri: 'cryobox://agent/console' });
    await expect(mcp.client.readResource({ uri: 'cryobox://agent/files/no/such' })).rejects.toThrow(
      '/no/such',
    );
  });

  it('tell progress, and end a command that is cancelled', async () => {
    const gone = new AbortController();
    const call = mcp.call(
      'run_command',
      { command: 'echo $$ > /root/cancelled; exec sleep 4321' },
      {
        signal: gone.signal,
        onprogress: () => gone.abort(),
      },
    );
    await expect(call).rejects.toThrow();
    await expect
      .poll(
        async () => (await mcp.call('run_command', { command: 'test -e /proc/$(cat /root/cancelled)' })).data,
        {
          timeout: 20_000,
        },
      )
      .toMatchObject({ exitCode: 1 });
  });

  it('refuse input that is out of range, by name', async () => {
    for (const [name, input, word] of [
      ['run_command', { command: '' }, 'command'],
      ['run_command', { command: 'true', timeoutMs: 0 }, 'timeoutMs'],
      ['run_command', { command: 'true', timeout: 5 }, 'timeout'],
      ['fork', { commands: Array(17).fill('true') }, 'commands'],
      ['create_box', { memoryMiB: 1 }, 'memoryMiB'],
      ['publish_port', { port: 70_000 }, 'port'],
      ['read_file', { path: 'relative' }, 'path'],
    ] as const) {
      const { failed, text } = await mcp.call(name, input);
      expect([name, failed]).toEqual([name, true]);
      expect(text).toContain(word);
    }
  });

  it('go on with the box of an earlier conversation, which was paused meanwhile', async () => {
    await using later = await McpClient.overStdio(home.path, '--box', 'agent');
    expect((await later.call('pause_box', { box: 'agent' })).failed).toBe(false);
    expect((await later.call('run_command', { command: 'cat /root/number' })).data).toMatchObject({
      stdout: '5',
    });
    expect((await later.call('list_boxes')).data).toMatchObject({
      boxes: [{ name: 'agent', status: 'running' }],
    });
    expect((await later.call('remove_box')).failed).toBe(false);
    expect(await runtime.list()).toEqual([]);
  });

  it('are only those that change nothing, where that is asked for', async () => {
    await using reader = await McpClient.overStdio(home.path, '--read-only');
    expect(await reader.tools()).toEqual(expect.arrayContaining(['list_boxes', 'read_file']));
    expect(await reader.tools()).not.toContain('run_command');
  });

  it('end with the client, and refuse a lifetime that no box has', async () => {
    const program = spawnCli(home.path, ['mcp'], { stdin: 'pipe' });
    program.stdin?.end();
    expect(await program).toMatchObject({ exitCode: 0, stdout: '' });
    const refused = await runCli(home.path, 'mcp', '--lifetime', '5s');
    expect(refused).toMatchObject({ exitCode: 125, stderr: expect.stringContaining('lifetime') });
    expect(await mustRun(home.path, 'ls', '-q')).toBe('');
  });
});
