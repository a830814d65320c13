import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { buffer, text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Execution, ExecutionOptions } from '../../src/guest/executions.js';
import type { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from './host-agent.js';

let count = 0;

/** Resident memory of a process in bytes. */
function residentBytes(pid: number): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1]) * 1024;
}

describe('executions', () => {
  let agent: HostAgent;
  let client: AgentClient;

  const start = (options: Partial<ExecutionOptions> & { argv: readonly string[] }): Promise<Execution> => {
    count += 1;
    return client.executions.start({ id: `e${count}`, ...options });
  };
  const shell = (script: string, options: Partial<ExecutionOptions> = {}) =>
    start({ argv: ['/bin/sh', '-c', script], ...options });

  beforeAll(async () => {
    agent = await HostAgent.start();
    client = await agent.connect();
  });
  afterAll(() => agent.stop());

  it('give their output, their exit code, and the exit last', async () => {
    const execution = await shell('echo out; echo err >&2; exit 7');
    expect(await text(execution.stdout)).toBe('out\n');
    expect(await text(execution.stderr ?? execution.stdout)).toBe('err\n');
    const exit = await execution.exit;
    expect(exit).toMatchObject({ code: 7, signal: null, timedOut: false });
    expect(Math.abs(exit.startedAtUnixMs - Date.now())).toBeLessThan(10_000);
  });

  it('carry 50 MB of output byte for byte', async () => {
    const execution = await shell('exec 4>&1; head -c 50000000 /dev/urandom | tee /dev/fd/4 | sha256sum >&2');
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const chunk of execution.stdout) {
      hash.update(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
    expect(bytes).toBe(50_000_000);
    expect(await text(execution.stderr ?? execution.stdout)).toBe(`${hash.digest('hex')}  -\n`);
  });

  it('hold a process back whose output nobody reads, in bounded memory', async () => {
    const before = residentBytes(agent.pid);
    const executions = await Promise.all(
      Array.from({ length: 8 }, () => shell('head -c 30000000 /dev/zero; echo done >&2')),
    );
    await delay(300);
    expect(residentBytes(agent.pid) - before).toBeLessThan(12 << 20);
    for (const execution of executions) {
      expect((await client.executions.get(execution.id)).state).toBe('running');
      expect(execution.stdout.readableLength).toBeLessThanOrEqual(256 * 1024);
      expect((await buffer(execution.stdout)).length).toBe(30_000_000);
      expect((await execution.exit).code).toBe(0);
    }
  });

  it('take input with back-pressure and see its end', async () => {
    const bytes = Buffer.alloc(3_000_000, 'abcdefg');
    const execution = await start({ argv: ['cat'], stdin: true });
    execution.stdin?.end(bytes);
    expect((await buffer(execution.stdout)).equals(bytes)).toBe(true);
    const without = await start({ argv: ['cat'] });
    expect(await text(without.stdout)).toBe('');
  });

  it('do not mind input that nobody reads', async () => {
    const execution = await shell('exec 0<&-; sleep 0.2; echo fine', { stdin: true });
    execution.stdin?.write(Buffer.alloc(2_000_000));
    expect(await text(execution.stdout)).toBe('fine\n');
    expect((await execution.exit).code).toBe(0);
  });

  it('pass environment and directory, and fill in HOME and PATH', async () => {
    const execution = await shell('echo "$A|$HOME|$PATH"; pwd', { env: { A: 'ü "x"\n' }, cwd: '/usr' });
    expect(await text(execution.stdout)).toBe(
      'ü "x"\n|/|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/usr\n',
    );
  });

  it.each([
    [{ argv: ['no-such-command'] }, 'command_not_found'],
    [{ argv: ['/no/such/command'] }, 'command_not_found'],
    [{ argv: ['/etc/passwd'] }, 'command_not_executable'],
    [{ argv: ['true'], cwd: '/no/such/place' }, 'cwd_not_found'],
    [{ argv: ['true'], user: 'no-such-user' }, 'user_not_found'],
    [{ argv: [] }, 'invalid_argument'],
    [{ argv: ['true'], id: 'a b' }, 'invalid_argument'],
    [{ argv: ['true'], dropCapabilities: ['CAP_FLY'] }, 'invalid_argument'],
  ])('say what is wrong with %j', async (options, code) => {
    await expect(start(options)).rejects.toMatchObject({ code });
  });

  it('say in few words that a very long name is no command, and go on', async () => {
    const failure = await start({ argv: ['\u0001é'.repeat(40_000)] }).catch((error: Error) => error);
    expect(failure).toMatchObject({ code: 'command_not_found' });
    expect((failure as Error).message.length).toBeLessThan(5000);
  });

  it('say that a script lacks its interpreter', async () => {
    const path = `${agent.directory}/script`;
    await client.files.write(path, [Buffer.from('#!/no/interpreter\n')], { mode: 0o755 });
    await expect(start({ argv: [path] })).rejects.toMatchObject({
      code: 'command_not_executable',
      message: expect.stringContaining('interpreter'),
    });
  });

  it.runIf(process.getuid?.() === 0)('run as another user', async () => {
    const execution = await start({ argv: ['id', '-u'], user: 'nobody' });
    expect(await text(execution.stdout)).toBe('65534\n');
    const numeric = await start({ argv: ['id'], user: '1234:5678' });
    expect(await text(numeric.stdout)).toMatch(/^uid=1234 gid=5678 groups=5678/);
  });

  it.runIf(process.getuid?.() === 0)('give up and get capabilities', async () => {
    const effective = (mask: string) => `CapEff:\t${mask}\n`;
    const dropped = await start({ argv: ['grep', 'CapEff', '/proc/self/status'], dropCapabilities: ['ALL'] });
    expect(await text(dropped.stdout)).toBe(effective('0000000000000000'));
    const added = await start({
      argv: ['grep', 'CapEff', '/proc/self/status'],
      user: 'nobody',
      addCapabilities: ['NET_BIND_SERVICE'],
    });
    expect(await text(added.stdout)).toBe(effective('0000000000000400'));
  });

  it('run on a terminal that can be resized, and see ^D', async () => {
    const execution = await shell('stty size; read line; stty size; echo "got $line"; cat; tty', {
      tty: { cols: 81, rows: 25 },
      stdin: true,
    });
    expect(execution.stderr).toBeUndefined();
    let output = '';
    for await (const chunk of execution.stdout) {
      output += String(chunk);
      if (output === '25 81\r\n') {
        await execution.resize({ cols: 100, rows: 30 });
        execution.stdin?.end('hello\nrest');
      }
    }
    expect(output).toMatch(/^25 81\r\nhello\r\n(rest)?30 100\r\ngot hello\r\n(rest)*\/dev\/pts\/\d+\r\n$/);
    expect((await execution.exit).code).toBe(0);
  });

  it('get signals by name and number', async () => {
    const trapped = await shell('trap "echo usr1; exit 3" USR1; echo ready; while :; do sleep 0.05; done');
    const signalled = once(trapped.stdout, 'data').then(() => trapped.signal('SIGUSR1'));
    await signalled;
    expect((await trapped.exit).code).toBe(3);
    const killed = await start({ argv: ['sleep', '1000'] });
    await killed.signal(15);
    expect(await killed.exit).toMatchObject({ code: null, signal: 15 });
    await expect(client.executions.signal(killed.id, 15)).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(client.executions.signal('nobody', 15)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('end with everything they started when their time is up', async () => {
    const execution = await shell('sleep 999.25 & (sleep 999.25; :) & wait', { timeoutMs: 200 });
    const exit = await execution.exit;
    expect(exit).toMatchObject({ signal: 9, timedOut: true });
    expect(exit.durationMs).toBeGreaterThanOrEqual(200);
    const left = await shell('pgrep -f "sleep 999[.]25" | wc -l');
    expect((await text(left.stdout)).trim()).toBe('0');
  });

  it('end when their process does, and leave background processes their output', async () => {
    const execution = await shell('(sleep 0.3; echo late; echo alive > "$F") & echo early', {
      env: { F: `${agent.directory}/alive` },
    });
    expect(await text(execution.stdout)).toBe('early\n');
    expect((await execution.exit).durationMs).toBeLessThan(290);
    await expect
      .poll(() => readFileSync(`${agent.directory}/alive`, 'utf8'), { timeout: 5000 })
      .toBe('alive\n');
  });

  it('are listed page by page, and forgotten on request', async () => {
    const many = await Promise.all(Array.from({ length: 230 }, () => start({ argv: ['true'] })));
    await Promise.all(many.map((one) => one.exit));
    const listed = await client.executions.list();
    expect(listed.filter((one) => many.some((other) => other.id === one.exec))).toHaveLength(230);
    const [first] = many;
    if (first === undefined) throw new Error('nothing was started');
    await client.executions.forget(first.id);
    await expect(client.executions.get(first.id)).rejects.toMatchObject({ code: 'not_found' });
    const running = await start({ argv: ['sleep', '1000'] });
    await expect(client.executions.forget(running.id)).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(start({ argv: ['true'], id: running.id })).rejects.toMatchObject({ code: 'conflict' });
    await running.kill();
    await running.exit;
  });

  it('go on when the engine has gone, and say what was dropped', async () => {
    const script = 'head -c 1000000 /dev/zero | tr "\\0" x; read line; echo "$line"; exit 5';
    const execution = await shell(script, { stdin: true });
    execution.stdout.resume();
    await expect.poll(() => execution.stdout.receivedTo).toBe(1_000_000);
    execution.stdin?.write('hel');
    await client.system.ping('the input has arrived');
    client.close();
    await expect(execution.exit).rejects.toMatchObject({ code: 'cancelled' });
    client = await agent.connect();
    const again = await client.executions.attach(execution.id, { stdoutFrom: 900_000 });
    expect(again.attached).toEqual({ stdoutDropped: 0, stderrDropped: 0, stdinAccepted: 3 });
    await expect(client.executions.attach(execution.id)).rejects.toMatchObject({ code: 'conflict' });
    again.stdin?.end('lo\n');
    expect(await text(again.stdout)).toBe(`${'x'.repeat(100_000)}hello\n`);
    expect((await again.exit).code).toBe(5);
    const late = await client.executions.attach(execution.id);
    expect(late.attached.stdoutDropped).toBe(1_000_006 - 256 * 1024);
    expect(await text(late.stdout)).toHaveLength(256 * 1024);
    expect((await late.exit).code).toBe(5);
  });

  it('go on when detached, dropping the oldest output', async () => {
    const execution = await shell('read line; head -c 700000 /dev/zero; echo end', { stdin: true });
    execution.stdin?.write('go\n');
    await execution.detach();
    await expect(execution.exit).rejects.toMatchObject({ code: 'cancelled' });
    await expect.poll(async () => (await client.executions.get(execution.id)).state).toBe('ended');
    const again = await client.executions.attach(execution.id, { stdoutFrom: 100 });
    expect(again.attached.stdoutDropped).toBe(700_004 - 256 * 1024 - 100);
    expect((await text(again.stdout)).endsWith('end\n')).toBe(true);
  });
});
