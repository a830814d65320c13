import { expect, it } from 'vitest';
import { failureOf } from '../engine/support.js';
import { conformance } from './support.js';

conformance('what people write', (subject) => {
  it('is a line for a shell, or a list of words', async () => {
    const { box } = subject;
    const result = await box.exec('cd /tmp && echo "$PWD" | tr a-z A-Z; echo é >&2; exit 3');
    expect(result).toMatchObject({ exitCode: 3, stdout: '/TMP\n', stderr: 'é\n' });
    expect((await box.exec(['echo', '$PWD | cat'])).stdout).toBe('$PWD | cat\n');
    expect(JSON.parse(JSON.stringify(result))).toMatchObject({ stdout: '/TMP\n', stderr: 'é\n' });
    const running = await box.startExec('echo a; echo b');
    let text = '';
    for await (const chunk of running.stdout) text += String(chunk);
    expect(text).toBe('a\nb\n');
    for (const none of ['', '  ', undefined, 5, [1], { argv: ['ls'] }]) {
      expect((await failureOf(box.exec(none as string))).code).toBe('invalid_argument');
      expect((await failureOf(box.startExec(none as string))).code).toBe('invalid_argument');
    }
  });

  it('gets bytes when it asks for them', async () => {
    const { box } = subject;
    const { stdout, stderr } = await box.exec("printf '\\377\\000'; printf '\\376' >&2", {
      encoding: 'buffer',
    });
    expect([[...stdout], [...stderr]]).toEqual([[0xff, 0], [0xfe]]);
    expect((await failureOf(box.exec('ls', { encoding: 'latin1' } as object))).message).toContain('encoding');
  });

  it('hears output as it comes', async () => {
    const { box } = subject;
    const seen: string[] = [];
    const script = "printf 'a\\303'; read x; printf '\\251b'; echo err >&2";
    const stdin = async function* () {
      await expect.poll(() => seen.join('')).toBe('a');
      yield 'go\n';
    };
    const errors: string[] = [];
    const result = await box.exec(script, {
      stdin: stdin(),
      onStdout: (text) => seen.push(text),
      onStderr: async (text) => errors.push(text),
    });
    expect([seen.join(''), errors.join(''), result.stdout]).toEqual(['aéb', 'err\n', 'aéb']);
    const bytes: Uint8Array[] = [];
    await box.exec("printf '\\377'", { encoding: 'buffer', onStdout: (chunk) => bytes.push(chunk) });
    expect([...Buffer.concat(bytes)]).toEqual([0xff]);
  });

  it('ends a command whose listener throws', async () => {
    const { box } = subject;
    const reason = new Error('enough');
    const call = box.exec('echo $$ > /tmp/heard; while :; do echo x; sleep 0.05; done', {
      onStdout: () => {
        throw reason;
      },
    });
    await expect(call).rejects.toMatchObject({ code: 'cancelled', cause: reason });
    const gone = 'while kill -0 $(cat /tmp/heard) 2>/dev/null; do sleep 0.05; done';
    expect(await box.exec(gone, { timeoutMs: 10_000 })).toMatchObject({ exitCode: 0 });
  });

  it('throws for a command that fails, when it is checked', async () => {
    const { box } = subject;
    expect((await box.exec('echo fine', { check: true })).stdout).toBe('fine\n');
    await expect(box.exec('echo out; echo bad >&2; exit 4', { check: true })).rejects.toMatchObject({
      code: 'execution_failed',
      message: expect.stringMatching(/ended with 4:\nbad$/),
      details: { exitCode: 4, signal: null, timedOut: false, stdout: 'out\n', stderr: 'bad\n' },
    });
    const killed = box.exec('kill -TERM $$', { check: true });
    await expect(killed).rejects.toMatchObject({ message: expect.stringContaining('SIGTERM') });
    const late = box.exec('sleep 60', { check: true, timeoutMs: 200 });
    await expect(late).rejects.toMatchObject({ details: { timedOut: true } });
  });

  it('is told of options that do not exist', async () => {
    const { box, runtime } = subject;
    const cases: [string, Promise<unknown>, string][] = [
      ['timeout', box.exec('true', { timeout: 5 } as object), 'timeoutMs'],
      ['timeout_ms', box.startExec('true', { timeout_ms: 5 } as object), 'timeoutMs'],
      ['enviroment', box.exec('true', { enviroment: {} } as object), 'env'],
      ['timeout', box.stop({ timeout: 1 } as object), 'timeoutMs'],
      ['forced', runtime.remove('none', { forced: true } as object), 'force'],
      ['recursively', box.files.remove('/tmp/none', { recursively: true } as object), 'recursive'],
      ['Mode', box.files.write('/tmp/none', 'x', { Mode: 0o600 } as object), 'mode'],
      ['stdIn', box.executions.attach('none', { stdIn: true } as object), 'stdin'],
      ['Memory', box.snapshot.create('none', { Memory: true } as object), 'memory'],
      ['dry_run', runtime.gc({ dry_run: true } as object), 'dryRun'],
    ];
    for (const [given, call, meant] of cases) {
      const failure = await failureOf(call);
      expect([failure.code, failure.message, failure.hint]).toEqual([
        'invalid_argument',
        expect.stringContaining(`${JSON.stringify(given)}; did you mean ${JSON.stringify(meant)}?`),
        `Write ${meant}.`,
      ]);
    }
    const created = runtime.create({ image: 'tiny', memory: 512 } as object);
    expect(await failureOf(created)).toMatchObject({
      code: 'unsupported',
      message: 'not supported: memory; did you mean "memoryMiB"?',
    });
    for (const wrong of [5000, true, 'force', null, []]) {
      expect((await failureOf(box.remove(wrong as object))).code).toBe('invalid_argument');
    }
    expect((await failureOf(box.fork(undefined as never))).code).toBe('invalid_argument');
    expect((await failureOf(box.snapshot.create(undefined as never))).code).toBe('invalid_argument');
    expect((await box.info()).status).toBe('running');
    expect(await box.exec('true', { timeoutMs: undefined })).toMatchObject({ exitCode: 0 });
  });

  it('is cancelled for the reason of its signal', async () => {
    const { box } = subject;
    const stop = new AbortController();
    const reason = new Error('the user left');
    const waiting = box.exec('echo here; sleep 60', {
      signal: stop.signal,
      onStdout: () => stop.abort(reason),
    });
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled', name: 'AbortError', cause: reason });
    await expect(box.info({ signal: stop.signal })).rejects.toMatchObject({
      cause: reason,
      name: 'AbortError',
    });
    const late = box.exec('sleep 60', { signal: AbortSignal.timeout(300) });
    await expect(late).rejects.toMatchObject({ code: 'cancelled', name: 'TimeoutError' });
  });

  it('signals by name', async () => {
    const { box } = subject;
    for (const [given, signal] of [
      ['SIGTERM', 15],
      ['TERM', 15],
      [15, 15],
      [9, 9],
    ] as const) {
      const execution = await box.startExec('exec sleep 60');
      await execution.signal(given);
      expect(await execution.wait()).toMatchObject({ signal });
    }
    const execution = await box.startExec('exec sleep 60');
    expect((await failureOf(execution.signal('NONSENSE'))).code).toBe('invalid_argument');
    await execution.kill();
  });

  it('reads lines, and both outputs in the order in which they come', async () => {
    const { box } = subject;
    const running = await box.startExec(
      "printf 'a\\nb\\r\\n\\né'; printf 'x\\303' >&2; usleep 100000; printf '\\251\\n' >&2",
    );
    const read = async (lines: AsyncIterable<string>): Promise<string[]> => {
      const all: string[] = [];
      for await (const line of lines) all.push(line);
      return all;
    };
    const both = await Promise.all([read(running.stdout.lines()), read(running.stderr.lines())]);
    expect(both).toEqual([['a', 'b', '', 'é'], ['xé']]);
    // Each waits until the one before was heard.
    const turns = await box.startExec(
      'for i in 1 2 3; do echo out $i; read x; echo err $i >&2; read x; done',
      {
        stdin: true,
      },
    );
    const heard: string[] = [];
    for await (const line of turns.all.lines()) {
      heard.push(line);
      await turns.stdin?.write('\n');
    }
    expect(heard).toEqual(['out 1', 'err 1', 'out 2', 'err 2', 'out 3', 'err 3']);
    expect(await turns.wait()).toMatchObject({ exitCode: 0 });
    // More than anybody takes ahead, of both; and a reader that has enough.
    const much = await box.startExec('head -c 1500000 /dev/zero; head -c 1500000 /dev/zero >&2');
    let bytes = 0;
    for await (const chunk of much.all) bytes += chunk.length;
    expect(bytes).toBe(3_000_000);
    const endless = await box.startExec('yes');
    for await (const line of endless.all.lines()) {
      expect(line).toBe('y');
      break;
    }
    await endless.kill();
    expect(await endless.wait()).toMatchObject({ signal: 9 });
  });

  it('gets what is kept of an output, from an offset, whoever is attached', async () => {
    const { box } = subject;
    const running = await box.startExec('printf 0123456789; echo e >&2; read x', { stdin: true });
    await expect
      .poll(async () => (await box.executions.output(running.id)).stdout.toString())
      .toBe('0123456789');
    const rest = await box.executions.output(running.id, { stdoutAt: 7, stderrAt: 2 });
    expect(rest).toEqual({ stdout: Buffer.from('789'), stdoutAt: 7, stderr: Buffer.alloc(0), stderrAt: 2 });
    await running.stdin?.end();
    expect(await running.wait()).toMatchObject({ exitCode: 1 });
    let text = '';
    for await (const chunk of running.stdout) text += Buffer.from(chunk).toString();
    expect(text).toBe('0123456789');
    expect((await failureOf(box.executions.output('exe_none'))).code).toBe('not_found');
    const wrong = box.executions.output(running.id, { stdoutAt: -1 });
    expect((await failureOf(wrong)).code).toBe('invalid_argument');
  });

  it('waits for a port', async () => {
    const { box } = subject;
    const late = await failureOf(box.waitForPort(4321, { timeoutMs: 300 }));
    expect(late).toMatchObject({ code: 'timeout', message: expect.stringContaining('port 4321') });
    const stop = AbortSignal.timeout(300);
    await expect(box.waitForPort(4321, { signal: stop })).rejects.toMatchObject({ code: 'cancelled' });
    expect((await failureOf(box.waitForPort(0))).code).toBe('invalid_argument');
  });

  it('has a box by another name', async () => {
    const { box, runtime } = subject;
    await box.rename('habits-renamed');
    expect((await runtime.get('habits-renamed'))?.id).toBe(box.id);
  });
});
