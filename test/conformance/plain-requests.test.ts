import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createServer, type Server } from '../../dist/server/index.js';
import type { Box } from '../../src/api/index.js';
import { Stage } from './support.js';

type Line = Record<string, unknown> & { type: string };

describe('commands by plain requests', () => {
  let stage: Stage;
  let box: Box;
  let url: string;

  beforeAll(async () => {
    stage = await Stage.open();
    box = await stage.engine.runtime().create({ image: 'tiny', name: 'plain', detach: true });
    url = `${stage.url}/v1/boxes/plain`;
  });
  afterAll(async () => stage.close());

  const send = (path: string, body?: unknown, init: RequestInit = {}): Promise<Response> =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      ...init,
    });
  const shell = (line: string, more: object = {}) => ({ command: 'sh', args: ['-c', line], ...more });
  const start = async (line: string, more: object = {}): Promise<string> =>
    ((await (await send('/exec', shell(line, more))).json()) as { execution_id: string }).execution_id;
  const logs = (id: string, query = '', headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${url}/executions/${id}/logs${query}`, { headers });

  /** The lines of an answer, as they come. */
  async function* linesOf(answer: Response): AsyncGenerator<Line> {
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? expect.unreachable()) {
      rest += decoder.decode(chunk, { stream: true });
      for (let at = rest.indexOf('\n'); at >= 0; at = rest.indexOf('\n')) {
        const line = rest.slice(0, at);
        rest = rest.slice(at + 1);
        if (line !== '') yield JSON.parse(line) as Line;
      }
    }
  }
  const all = async (answer: Response): Promise<Line[]> => {
    const lines: Line[] = [];
    for await (const line of linesOf(answer)) lines.push(line);
    return lines;
  };
  const textOf = (lines: readonly Line[], stream: string): string =>
    lines.map((line) => (line.type === 'output' && line['stream'] === stream ? line['text'] : '')).join('');

  it('run to the end and answer with how it was, and what was written', async () => {
    const answer = await send('/exec?wait=true', shell('cat; echo é >&2; exit 3', { stdin: 'in' }));
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({
      execution_id: expect.stringMatching(/^exe_/),
      ...{ exit_code: 3, signal: null, timed_out: false, encoding: 'utf8' },
      ...{ stdout: 'in', stderr: 'é\n', stdout_bytes: 2, stderr_bytes: 3 },
      ...{ stdout_cut_bytes: 0, stderr_cut_bytes: 0 },
    });
    const killed = await (await send('/exec?wait=true', shell('kill -TERM $$'))).json();
    expect(killed).toMatchObject({ exit_code: -15, signal: 15 });
    // A terminal without anybody who types.
    const terminal = { command: 'cat', tty: true, timeout_seconds: 20 };
    expect(await (await send('/exec?wait=true', terminal)).json()).toMatchObject({ timed_out: false });
    const late = await (
      await send('/exec?wait=true', shell('echo a; sleep 60', { timeout_seconds: 0.5 }))
    ).json();
    expect(late).toMatchObject({ timed_out: true, stdout: 'a\n' });
  });

  it('bound what they answer, and say what was cut', async () => {
    const line = 'head -c 50 /dev/zero | tr "\\0" a; head -c 100 /dev/zero | tr "\\0" b; printf é >&2';
    const cut = await (await send('/exec?wait=true', shell(line, { max_output_bytes: 40 }))).json();
    expect(cut).toMatchObject({ stdout_bytes: 150, stdout_cut_bytes: 110, stderr: 'é', stderr_cut_bytes: 0 });
    expect((cut as { stdout: string }).stdout).toBe(
      `${'a'.repeat(20)}\n[... 110 bytes cut ...]\n${'b'.repeat(20)}`,
    );
    const bytes = { max_output_bytes: 4, encoding: 'base64' };
    const raw = await (
      await send('/exec?wait=true', shell("printf '\\377\\376abc\\000\\001'", bytes))
    ).json();
    expect([...Buffer.from((raw as { stdout: string }).stdout, 'base64')]).toEqual([255, 254, 0, 1]);
    const flood = await (await send('/exec?wait=true', shell('head -c 4000000 /dev/zero; echo end'))).json();
    expect(flood).toMatchObject({ exit_code: 0, stdout_bytes: 4_000_004 });
    expect((flood as { stdout: string }).stdout.length).toBeLessThan(1_100_000);
    expect((flood as { stdout: string }).stdout.endsWith('end\n')).toBe(true);
  });

  it('refuse what means nothing together', async () => {
    for (const [path, body, words] of [
      ['/exec', { command: 'true', max_output_bytes: 5 }, 'max_output_bytes needs wait=true'],
      ['/exec', { command: 'true', encoding: 'base64' }, 'encoding needs wait=true'],
      ['/exec?wait=true', { command: 'true', keep: true }, 'keep has no meaning'],
      ['/exec?wait=yes', { command: 'true' }, 'wait'],
      ['/exec?wait=true', { command: 'true', max_output_bytes: 1e9 }, 'max_output_bytes'],
    ] as const) {
      const answer = await send(path, body);
      expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining(words)]);
    }
    const missing = await send('/exec?wait=true', { command: 'no-such-command' });
    expect(await missing.json()).toMatchObject({ error: { reason: 'command_not_found' } });
  });

  it('end a command whose caller has gone', async () => {
    const gone = new AbortController();
    const call = send('/exec?wait=true', shell('echo $$ > /tmp/waited; exec sleep 600'), {
      signal: gone.signal,
    });
    await box.exec('until [ -s /tmp/waited ]; do usleep 20000; done', { timeoutMs: 20_000 });
    gone.abort();
    await expect(call).rejects.toThrow();
    const dead = 'while kill -0 $(cat /tmp/waited) 2>/dev/null; do usleep 20000; done';
    expect(await box.exec(dead, { timeoutMs: 20_000 })).toMatchObject({ exitCode: 0 });
  });

  it('give what is written, from an offset, once and again', async () => {
    const id = await start('printf "one\\ntwo\\n"; echo err >&2; read x; exit 4');
    let lines: Line[] = [];
    await expect
      .poll(async () => {
        lines = await all(await logs(id));
        return textOf(lines, 'stdout') + textOf(lines, 'stderr');
      })
      .toBe('one\ntwo\nerr\n');
    expect(lines.at(-1)).toEqual({ type: 'running', stdout_at: 8, stderr_at: 4 });
    const later = await all(await logs(id, '?stdout_at=4&stderr_at=4'));
    expect(later).toEqual([
      { type: 'output', stream: 'stdout', at: 4, end: 8, text: 'two\n' },
      { type: 'running', stdout_at: 8, stderr_at: 4 },
    ]);
    const [first] = await all(await logs(id, '?output=stderr&encoding=base64'));
    expect(first).toMatchObject({ stream: 'stderr', base64: Buffer.from('err\n').toString('base64') });
    // Nothing was taken away from who attaches.
    const attached = await box.executions.output(id);
    expect(attached.stdout.toString()).toBe('one\ntwo\n');
    const said = await send(`/executions/${id}/stdin?eof=true`, undefined, { body: 'go\n' });
    expect(await said.json()).toEqual({ bytes: 3, eof: true });
    const followed = await all(await logs(id, '?follow=true&stdout_at=8&stderr_at=4'));
    expect(followed).toMatchObject([{ type: 'exit', exit_code: 4, timed_out: false, stdout_at: 8 }]);
    expect((await all(await logs(id))).at(-1)).toMatchObject({ type: 'exit', exit_code: 4 });
    const none = await logs('exe_none');
    expect(none.status).toBe(404);
    expect((await logs(id, '?folow=true')).status).toBe(400);
  });

  it('follow all of an output, more than is kept, in order and by characters', async () => {
    const count = 60_000;
    const id = await start(`seq 1 ${count} | sed "s/^/é /"; echo end >&2`);
    const lines = await all(await logs(id, '?follow=true'));
    const written = Array.from({ length: count }, (_, at) => `é ${at + 1}\n`).join('');
    expect(textOf(lines, 'stdout') === written).toBe(true);
    expect(textOf(lines, 'stderr')).toBe('end\n');
    expect(lines.filter(({ type }) => type !== 'output')).toMatchObject([{ type: 'exit', exit_code: 0 }]);
    let at = 0;
    for (const line of lines.filter(({ stream }) => stream === 'stdout')) {
      expect(line['at']).toBe(at);
      at = line['end'] as number;
    }
  });

  it('are server-sent events for a browser, which comes back where it was and stops at the end', async () => {
    const id = await start('echo one; read x; echo two; read x');
    const accept = { accept: 'text/event-stream' };
    const stop = new AbortController();
    const first = await fetch(`${url}/executions/${id}/logs?follow=true`, {
      headers: accept,
      signal: stop.signal,
    });
    expect(first.headers.get('content-type')).toContain('text/event-stream');
    let seen = '';
    for await (const chunk of first.body ?? expect.unreachable()) {
      seen += Buffer.from(chunk).toString();
      if (seen.includes('one')) break;
    }
    stop.abort();
    const [, last = ''] = /^id: (.*)$/m.exec(seen) ?? [];
    expect(last).toBe('4.0');
    await send(`/executions/${id}/stdin?eof=true`, undefined, { body: 'a\nb\n' });
    const again = await logs(id, '?follow=true', { ...accept, 'last-event-id': last });
    const text = await again.text();
    expect(text).toContain(
      'event: output\ndata: {"type":"output","stream":"stdout","at":4,"end":8,"text":"two\\n"}',
    );
    expect(text).toMatch(/id: end\nevent: exit\ndata: \{"type":"exit","exit_code":0/);
    expect((await logs(id, '?follow=true', { ...accept, 'last-event-id': 'end' })).status).toBe(204);
  });

  it('tell what is kept no more, where nobody took it', async () => {
    const execution = await box.startExec('head -c 600000 /dev/zero | tr "\\0" x; echo; read x', {
      stdin: true,
    });
    await execution.detach();
    await expect
      .poll(async () => (await box.executions.output(execution.id)).stdout.at(-1), { timeout: 20_000 })
      .toBe(10);
    const [lost, ...rest] = await all(await logs(execution.id));
    expect(lost).toMatchObject({ type: 'output_lost', stream: 'stdout', at: 0, bytes: expect.any(Number) });
    expect(textOf(rest, 'stdout').length).toBe(600_001 - (lost?.['bytes'] as number));
    // Nobody holds it: several follow, and stdin is written by plain requests.
    const two = [
      logs(execution.id, '?follow=true&output=stderr'),
      logs(execution.id, '?follow=true&output=stderr'),
    ];
    const taken = await send(`/executions/${execution.id}/stdin`, undefined, { body: '\n' });
    expect(await taken.json()).toEqual({ bytes: 1, eof: false });
    for (const each of two)
      expect((await all(await each)).at(-1)).toMatchObject({ type: 'exit', exit_code: 0 });
    const late = await send(`/executions/${execution.id}/stdin`, undefined, { body: 'x' });
    expect([late.status, await late.text()]).toEqual([409, expect.stringContaining('has ended')]);
  });

  it('carry input to a command whose output is followed', async () => {
    const id = await start('cat');
    const followed = all(await logs(id, '?follow=true&encoding=base64'));
    const sent = Buffer.alloc(2_000_000, 'abcdefg\n');
    const taken = await send(`/executions/${id}/stdin?eof=true`, undefined, { body: sent });
    expect(await taken.json()).toEqual({ bytes: sent.length, eof: true });
    const bytes = (await followed).map((line) => Buffer.from(String(line['base64'] ?? ''), 'base64'));
    expect(Buffer.concat(bytes).equals(sent)).toBe(true);
    const closed = await send(`/executions/${await start('cat', { stdin: 'x' })}/stdin`, undefined, {
      body: 'y',
    });
    expect(closed.status).toBe(409);
  });

  it('say why a box has none', async () => {
    const other = await stage.engine.runtime().create({ image: 'tiny', name: 'asleep', detach: true });
    const { id } = await other.startExec('sleep 600');
    await other.pause();
    const answer = await fetch(`${stage.url}/v1/boxes/asleep/executions/${id}/logs`);
    expect([answer.status, await answer.text()]).toEqual([409, expect.stringContaining('paused')]);
    await other.remove({ force: true });
  });

  describe('nobody comes back to', () => {
    let server: Server;
    let base: string;
    beforeAll(async () => {
      server = createServer({
        runtimeFor: (tenant) => stage.engine.runtime(tenant),
        authenticator: null,
        limits: { attachWaitMs: 50, orphanMs: 2000 },
      });
      base = `${(await server.listen({ port: 0 })).url}/v1/boxes/plain`;
    });
    afterAll(async () => server.close());

    const begin = async (body: object): Promise<string> => {
      const answer = await fetch(`${base}/exec`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      return ((await answer.json()) as { execution_id: string }).execution_id;
    };
    const infoOf = async (id: string) =>
      (await (await fetch(`${base}/executions/${id}`)).json()) as Record<string, unknown>;

    it('go on where that was asked for, and else are ended with the reason told', async () => {
      const kept = await begin({ command: 'sleep', args: ['600'], keep: true });
      const orphan = await begin({ command: 'sleep', args: ['600'] });
      await expect.poll(async () => (await infoOf(orphan))['status'], { timeout: 20_000 }).toBe('killed');
      expect(await infoOf(orphan)).toMatchObject({
        signal: 1,
        error_message: expect.stringMatching(/nobody attached .* SIGHUP; with "keep": true it goes on/),
      });
      expect(await infoOf(kept)).toMatchObject({ status: 'running', attached: false });
      await box.executions.kill(kept);
    });

    it('go on while their logs are followed', async () => {
      const id = await begin(shell('i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); usleep 100000; done'));
      const reader = fetch(`${base}/executions/${id}/logs?follow=true`);
      expect((await all(await reader)).at(-1)).toMatchObject({ type: 'exit', exit_code: 0 });
    });
  });
});
