import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Box, ByteSource } from '../../src/api/index.js';
import { failureOf, output, TestEngine } from './support.js';

const engine = new TestEngine();

/** Says `none` once no `sleep 777` is left: one that was killed a moment ago may still be seen. */
const noSleep =
  'n=0; while ps | grep -q "[s]leep 777" && [ $n -lt 50 ]; do n=$((n+1)); usleep 100000; done; ps | grep "[s]leep 777" || echo none';

async function textOf(source: ByteSource): Promise<string> {
  let text = '';
  for await (const chunk of source) text += Buffer.from(chunk).toString();
  return text;
}

/** What each of some calls gave: `done`, or the code it failed with. */
async function outcomes(calls: readonly Promise<unknown>[]): Promise<string[]> {
  const settled = await Promise.allSettled(calls);
  return settled.map((it) => (it.status === 'fulfilled' ? 'done' : (it.reason as { code: string }).code));
}

/** Makes a call every few milliseconds while something else is under way, and a few after its end. */
async function meanwhile(other: Promise<unknown>, call: (n: number) => Promise<unknown>): Promise<string[]> {
  const calls: Promise<unknown>[] = [];
  let isOver = false;
  const over = other.then(
    () => {
      isOver = true;
    },
    () => {
      isOver = true;
    },
  );
  for (let n = 0; !isOver && n < 30; n += 1) {
    calls.push(call(n));
    calls.at(-1)?.catch(() => undefined);
    await delay(25);
  }
  await over;
  calls.push(call(calls.length));
  return await outcomes(calls);
}

describe('a use that meets', { timeout: 120_000 }, () => {
  it('a pause waits, and resumes the box', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    const calls: readonly ((n: number) => Promise<unknown>)[] = [
      async (n) => expect(await output(box, `echo ${n}`)).toBe(String(n)),
      (n) => box.files.write(`/root/f${n}`, 'x'),
      () => box.files.stat('/root'),
      async () => {
        const execution = await box.startExec(['cat', '/etc/hostname']);
        expect(await textOf(execution.stdout)).not.toBe('');
        expect(await execution.wait()).toMatchObject({ exitCode: 0 });
      },
    ];
    for (const call of calls) {
      const met = await meanwhile(box.pause(), call);
      expect(met).toEqual(met.map(() => 'done'));
      expect((await box.info()).status).toBe('running');
    }
    const pausing = box.pause();
    const connection = await box.dial(1).catch((error: unknown) => error);
    await pausing;
    // Nobody listens there: what counts is that the guest said so.
    expect(connection).toMatchObject({ code: 'network_unavailable' });
  });

  it('a pause is told so when the box may not be resumed', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny', autoResume: false });
    const met = await meanwhile(box.pause(), () => box.exec(['true']));
    expect(met.filter((outcome) => outcome !== 'done' && outcome !== 'stopped')).toEqual([]);
    expect(met.at(-1)).toBe('stopped');
  });

  it('a stop starts the box again, or ends with it', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    for (let round = 0; round < 2; round += 1) {
      const met = await meanwhile(box.stop(), () => box.exec(['true']));
      // One that has begun already ends with the processes of the box.
      expect(met.filter((outcome) => outcome !== 'done' && outcome !== 'invalid_state')).toEqual([]);
      expect(met.at(-1)).toBe('done');
    }
  });

  it('a removal finds no box', async () => {
    const { runtime } = engine;
    const box = await runtime.create({ image: 'tiny' });
    const met = await meanwhile(box.remove({ force: true }), () => box.exec(['sleep', '5']));
    expect(met).toEqual(met.map(() => 'not_found'));
  });

  it('a rollback goes on with the box as it was', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    await box.snapshot.create('then', { memory: true });
    const met = await meanwhile(box.snapshot.restore('then', { live: true }), () => box.exec(['true']));
    expect(met.filter((outcome) => outcome !== 'done' && outcome !== 'invalid_state')).toEqual([]);
    expect(met.at(-1)).toBe('done');
  });
});

describe('an attached command', { timeout: 120_000 }, () => {
  it('goes on after a pause and a resume, without losing a byte', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    const bytes = randomBytes(2_000_000);
    const sum = createHash('sha256').update(bytes).digest('hex');
    const summing = await box.startExec(['sha256sum'], { stdin: true });
    const echoing = await box.startExec(
      ['sh', '-c', 'while read line; do echo "got $line"; done; seq 1 200000'],
      {
        stdin: true,
      },
    );
    let written = 0;
    const writing = (async () => {
      for (; written < bytes.length; written += 20_000) {
        await summing.stdin?.write(bytes.subarray(written, written + 20_000));
        await delay(10);
      }
      await summing.stdin?.end();
    })();
    const lines = echoing.stdout[Symbol.asyncIterator]();
    for (let round = 0; round < 3; round += 1) {
      await echoing.stdin?.write(`${round}\n`);
      expect(Buffer.from((await lines.next()).value as Uint8Array).toString()).toBe(`got ${round}\n`);
      await delay(100);
      await box.pause();
      const late = echoing.stdin?.write('late\n');
      expect((await box.info()).status).toBe('paused');
      expect(await failureOf(echoing.signal('SIGTERM'))).toMatchObject({ code: 'invalid_state' });
      await box.resume();
      await late;
      expect(Buffer.from((await lines.next()).value as Uint8Array).toString()).toBe('got late\n');
    }
    await writing;
    expect(await textOf(summing.stdout)).toBe(`${sum}  -\n`);
    expect(await summing.wait()).toMatchObject({ exitCode: 0 });
    await echoing.stdin?.end();
    let rest = '';
    for (let next = await lines.next(); !next.done; next = await lines.next()) {
      rest += Buffer.from(next.value as Uint8Array).toString();
    }
    expect(rest).toBe(Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join(''));
    expect(await echoing.wait()).toMatchObject({ exitCode: 0 });
    expect(echoing.droppedBytes).toEqual({ stdout: 0, stderr: 0 });
  });

  it('keeps unread output over a pause', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    const execution = await box.startExec(['sh', '-c', 'seq 1 300000; exit 4']);
    await box.pause();
    await box.resume();
    const text = await textOf(execution.stdout);
    expect(text).toBe(Array.from({ length: 300_000 }, (_, i) => `${i + 1}\n`).join(''));
    expect(await execution.wait()).toMatchObject({ exitCode: 4 });
  });

  it('says truthfully why it cannot be followed any more', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    const start = async (): Promise<[Box, Awaited<ReturnType<Box['startExec']>>]> => [
      box,
      await box.startExec(['sh', '-c', 'trap "" TERM; sleep 100']),
    ];
    const [, stopped] = await start();
    await box.pause();
    await box.stop();
    expect(await failureOf(stopped.wait())).toMatchObject({
      code: 'invalid_state',
      message: expect.stringContaining('stopped') as string,
    });
    expect(await failureOf(textOf(stopped.stdout))).toMatchObject({ code: 'invalid_state' });
    expect(await failureOf(stopped.kill())).toMatchObject({ code: 'invalid_state' });
    expect(await failureOf(box.executions.kill(stopped.id))).toMatchObject({ code: 'not_found' });
    await stopped.detach();

    await box.start();
    const [, discarded] = await start();
    await box.pause();
    expect(await failureOf(box.executions.kill(discarded.id))).toMatchObject({ code: 'invalid_state' });
    await box.start({ discardMemory: true });
    expect(await failureOf(discarded.wait())).toMatchObject({ code: 'invalid_state' });

    const [, killed] = await start();
    process.kill((await box.info()).pid ?? 0, 'SIGKILL');
    expect(await failureOf(killed.wait())).toMatchObject({ code: 'machine_failed' });
    await box.start();

    const [, removed] = await start();
    await box.pause();
    await box.remove();
    expect(await failureOf(removed.wait())).toMatchObject({ code: 'not_found' });
  });

  it('is killed before it goes on when that was asked for during a pause', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    const execution = await box.startExec(['sleep', '777']);
    await box.pause();
    await execution.kill();
    await execution.detach();
    await box.resume();
    expect(await execution.wait()).toMatchObject({ signal: 9 });
    expect(await output(box, noSleep)).toBe('none');
  });
});

describe('a command whose start nobody waits for', { timeout: 120_000 }, () => {
  it('does not run on', async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    let cancelled = 0;
    for (let round = 0; round < 60; round += 1) {
      const starting = box.startExec(['sleep', '777'], { signal: AbortSignal.timeout(1 + (round % 30)) });
      const started = await starting.catch((error: unknown) => error);
      if (started instanceof Error) {
        expect(started).toMatchObject({ code: 'cancelled' });
        cancelled += 1;
      } else await (started as Awaited<typeof starting>).kill();
    }
    expect(cancelled).toBeGreaterThan(0);
    expect(await output(box, noSleep)).toBe('none');
    const running = (await box.executions.list()).filter(({ status }) => status === 'running');
    expect(running).toEqual([]);
  });
});
