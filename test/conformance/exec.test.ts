import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import type { ByteSource } from '../../src/api/index.js';
import { conformance } from './support.js';

async function collect(source: ByteSource): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* patternOf(bytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes; at += 65_536) yield Buffer.alloc(Math.min(65_536, bytes - at), at % 251);
}

conformance('exec', (subject) => {
  it('gives bytes, exit code and signal', async () => {
    const { box } = subject;
    const result = await box.exec(['sh', '-c', 'echo out; echo err >&2; printf "\\377"; exit 3'], {
      encoding: 'buffer',
    });
    expect(result).toMatchObject({ exitCode: 3, signal: null, timedOut: false });
    expect([...result.stdout]).toEqual([...Buffer.from('out\n'), 0xff]);
    expect(result.stderr.toString()).toBe('err\n');
    expect(result.durationMs).toBeGreaterThanOrEqual(0);
    expect(await box.exec(['sh', '-c', 'kill -9 $$'])).toMatchObject({ exitCode: null, signal: 9 });
  });

  it('takes environment, directory and user', async () => {
    const { box } = subject;
    const script = 'echo "$A|$PWD|$(id -u):$(id -g)"';
    const { stdout } = await box.exec(['sh', '-c', script], {
      env: { A: 'é $x' },
      cwd: '/tmp',
      user: 'user',
    });
    expect(stdout.toString()).toBe('é $x|/tmp|1000:1000\n');
    expect((await box.exec(['id', '-u'], { user: '7:8' })).stdout.toString()).toBe('7\n');
  });

  it('says what is missing', async () => {
    const { box } = subject;
    await expect(box.exec(['no-such-command'])).rejects.toMatchObject({ code: 'command_not_found' });
    await expect(box.exec(['/etc/passwd'])).rejects.toMatchObject({ code: 'command_not_executable' });
    await expect(box.exec(['true'], { cwd: '/no/such' })).rejects.toMatchObject({ code: 'cwd_not_found' });
    await expect(box.exec(['true'], { user: 'nobody-here' })).rejects.toMatchObject({
      code: 'user_not_found',
    });
    await expect(box.exec([])).rejects.toMatchObject({ code: 'invalid_argument' });
    expect((await box.exec(['sh', '-c', 'no-such-command'])).exitCode).toBe(127);
  });

  it('passes stdin, text, bytes and streams', async () => {
    const { box } = subject;
    expect((await box.exec(['cat'], { stdin: 'héllo' })).stdout.toString()).toBe('héllo');
    expect((await box.exec(['cat'])).stdout.length).toBe(0);
    const bytes = 3_000_000;
    const hash = createHash('sha256');
    for await (const chunk of patternOf(bytes)) hash.update(chunk);
    const { stdout } = await box.exec(['sha256sum'], { stdin: patternOf(bytes) });
    expect(stdout.toString()).toBe(`${hash.digest('hex')}  -\n`);
    const unread = await box.exec(['true'], { stdin: patternOf(bytes) });
    expect(unread.exitCode).toBe(0);
  });

  it('loses no byte of output', async () => {
    const { box } = subject;
    const { stdout, stderr } = await box.exec([
      'sh',
      '-c',
      'yes 0123456789 | head -c 5000000; yes err | head -c 1000000 >&2',
    ]);
    expect([stdout.length, stderr.length]).toEqual([5_000_000, 1_000_000]);
    expect(stdout.toString().slice(0, 4_999_995)).toBe('0123456789\n'.repeat(454_546).slice(0, 4_999_995));
  });

  it('kills what takes too long, and what is no longer wanted', async () => {
    const { box } = subject;
    const late = await box.exec(['sh', '-c', 'sleep 60 & sleep 60'], { timeoutMs: 300 });
    expect(late).toMatchObject({ timedOut: true, signal: 9 });
    const stop = new AbortController();
    const aborted = box.exec(['sh', '-c', 'echo $$ > /tmp/pid; exec sleep 61'], { signal: stop.signal });
    const gone = expect(aborted).rejects.toMatchObject({ code: 'cancelled' });
    const poll = 'while ! [ -s /tmp/pid ]; do sleep 0.05; done';
    await box.exec(['sh', '-c', poll], { timeoutMs: 20_000 });
    stop.abort();
    await gone;
    const wait = 'while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.05; done; rm /tmp/pid';
    expect(await box.exec(['sh', '-c', wait], { timeoutMs: 10_000 })).toMatchObject({ exitCode: 0 });
  });

  it('streams both ways at once', async () => {
    const { box } = subject;
    const execution = await box.startExec(['cat'], { stdin: true });
    expect(execution.boxId).toBe(box.id);
    const lines: string[] = [];
    await execution.stdin?.write('one\n');
    for await (const chunk of execution.stdout) {
      lines.push(Buffer.from(chunk).toString());
      if (lines.length === 1) await execution.stdin?.write(Buffer.from('two\n'));
      else await execution.stdin?.end();
    }
    expect(lines.join('')).toBe('one\ntwo\n');
    expect(await execution.wait()).toMatchObject({ exitCode: 0, signal: null });
    expect(execution.droppedBytes).toEqual({ stdout: 0, stderr: 0 });
  });

  it('signals and kills, by handle and by id', async () => {
    const { box } = subject;
    const trap = 'trap "echo got; exit 5" TERM; echo ready; while true; do sleep 0.05; done';
    const polite = await box.startExec(['sh', '-c', trap]);
    let output = '';
    for await (const chunk of polite.stdout) {
      output += Buffer.from(chunk).toString();
      if (output === 'ready\n') await polite.signal('SIGTERM');
    }
    expect(output).toBe('ready\ngot\n');
    expect((await polite.wait()).exitCode).toBe(5);

    const killed = await box.startExec(['sleep', '60']);
    await killed.kill();
    expect(await killed.wait()).toMatchObject({ exitCode: null, signal: 9 });

    const byId = await box.startExec(['sleep', '60']);
    await box.executions.signal(byId.id, 2);
    expect(await byId.wait()).toMatchObject({ signal: 2 });
    const other = await box.startExec(['sleep', '60']);
    await box.executions.kill(other.id);
    expect((await other.wait()).signal).toBe(9);
    await expect(other.signal('SIGNONSENSE')).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(box.executions.signal('exe_none', 2)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('has terminals of a size that can change', async () => {
    const { box } = subject;
    const script = 'stty size; read line; stty size; echo "$line"';
    const execution = await box.startExec(['sh', '-c', script], {
      tty: { cols: 101, rows: 31 },
      stdin: true,
    });
    let output = '';
    for await (const chunk of execution.stdout) {
      output += Buffer.from(chunk).toString();
      if (output === '31 101\r\n') {
        await execution.resize({ cols: 55, rows: 22 });
        await execution.stdin?.write('typed\n');
      }
    }
    expect(output).toContain('22 55\r\n');
    expect(output.endsWith('typed\r\n')).toBe(true);
    const plain = await box.startExec(['sleep', '60']);
    await expect(plain.resize({ cols: 1, rows: 1 })).rejects.toMatchObject({ code: 'invalid_state' });
    await plain.kill();
  });

  it('lets go and comes back, one at a time', async () => {
    const { box } = subject;
    const script = 'echo first; read line; echo "second $line"; exit 4';
    const first = await box.startExec(['sh', '-c', script], { stdin: true });
    for await (const chunk of first.stdout) {
      expect(Buffer.from(chunk).toString()).toBe('first\n');
      break;
    }
    await expect(box.executions.attach(first.id)).rejects.toMatchObject({ code: 'conflict' });
    await first.detach();
    expect(await box.executions.get(first.id)).toMatchObject({
      id: first.id,
      boxId: box.id,
      status: 'running',
      exitCode: null,
      attached: false,
      tty: false,
      pid: expect.any(Number),
    });
    const second = await box.executions.attach(first.id, { stdin: true });
    await second.stdin?.write('x\n');
    // What is kept comes again, whoever has read it.
    expect((await collect(second.stdout)).toString()).toBe('first\nsecond x\n');
    expect((await second.wait()).exitCode).toBe(4);
    expect(await box.executions.get(first.id)).toMatchObject({ status: 'completed', exitCode: 4 });
    expect((await box.executions.list()).map(({ id }) => id)).toContain(first.id);
    expect(await box.executions.get('exe_none')).toBeNull();
    await expect(box.executions.attach('exe_none')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('makes a command wait for who does not read', async () => {
    const { box } = subject;
    const script =
      'i=0; while [ $i -lt 400 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i > /tmp/progress; done';
    const execution = await box.startExec(['sh', '-c', script]);
    const progress = async () => Number((await box.exec(['cat', '/tmp/progress'])).stdout.toString());
    let before = -1;
    let now = 0;
    while (now !== before || now === 0) {
      before = now;
      now = await progress().catch(() => 0);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    // 26 MB are written in all; what lies between the command and its reader holds much less.
    expect(now * 65_536).toBeLessThan(16 * 1024 * 1024);
    expect((await collect(execution.stdout)).length).toBe(400 * 65_536);
    expect((await execution.wait()).exitCode).toBe(0);
  });

  it('runs many at once', async () => {
    const { box } = subject;
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => box.exec(['sh', '-c', `echo ${i}; exit ${i}`])),
    );
    expect(results.map(({ exitCode, stdout }) => [exitCode, stdout.toString()])).toEqual(
      Array.from({ length: 20 }, (_, i) => [i, `${i}\n`]),
    );
  });

  it('passes on as many arguments and variables as the kernel takes', async () => {
    const { box } = subject;
    const longest = 'é'.repeat(65_535);
    const given = await box.exec(['sh', '-c', 'printf %s "$1$BIG" | wc -c', 'sh', longest], {
      env: { BIG: 'y'.repeat(131_000) },
    });
    expect([given.exitCode, given.stdout.trim()]).toEqual([0, String(131_070 + 131_000)]);
    const many = Array.from({ length: 18 }, (_, i) => `${String.fromCharCode(97 + i)}`.repeat(110_000));
    const sum = createHash('sha256')
      .update(`${many.join('\n')}\n`)
      .digest('hex');
    const script = 'printf "%s\\n" "$@" | sha256sum';
    expect((await box.exec(['sh', '-c', script, 'sh', ...many])).stdout).toBe(`${sum}  -\n`);
    const words = Array.from({ length: 20_000 }, (_, i) => `word-${i}`);
    expect((await box.exec(['sh', '-c', 'echo $#', 'sh', ...words])).stdout).toBe('20000\n');
    for (const tooMany of [['x'.repeat(131_072)], [...many, ...many]]) {
      const refused = box.exec(['true', ...tooMany]);
      await expect(refused).rejects.toMatchObject({
        code: 'payload_too_large',
        hint: expect.stringContaining('stdin'),
      });
    }
    await expect(box.exec(['true'], { env: { BIG: 'y'.repeat(131_071) } })).rejects.toMatchObject({
      code: 'payload_too_large',
    });
    expect((await box.exec(['true'])).exitCode).toBe(0);
  });
});
