import { expect, it } from 'vitest';
import type { RuntimeEvent } from '../../src/api/index.js';
import { conformance } from './support.js';

/** Events of a box up to its first such change. */
async function collect(
  events: AsyncIterable<RuntimeEvent>,
  id: string,
  last: string,
): Promise<RuntimeEvent[]> {
  const found: RuntimeEvent[] = [];
  for await (const event of events) {
    if (event.id === id) found.push(event);
    if (found.at(-1)?.change === last) break;
  }
  return found;
}

conformance('boxes', (subject) => {
  it('are made as asked, found by id, name and beginning of the id, and removed', async () => {
    const { runtime } = subject;
    const box = await runtime.create({
      image: 'tiny',
      name: 'Full-1',
      memoryMiB: 512,
      env: { GREETING: 'hé llo' },
      workingDir: '/tmp',
      user: 'user',
      cmd: ['sleep', '1'],
      labels: { team: 'x y' },
      autoStop: 600,
      autoDelete: 1200,
      autoResume: false,
      detach: true,
    });
    const info = await box.info();
    expect(info).toMatchObject({
      id: box.id,
      name: 'Full-1',
      status: 'running',
      cpus: 1,
      memoryMiB: 512,
      env: expect.objectContaining({ GREETING: 'hé llo' }) as unknown,
      workingDir: '/tmp',
      user: 'user',
      cmd: ['sleep', '1'],
      labels: { team: 'x y' },
      autoStop: 600,
      autoDelete: 1200,
      autoResume: false,
      detach: true,
    });
    expect(info.createdAt.getTime()).toBeGreaterThan(Date.now() - 120_000);
    for (const name of ['Full-1', box.id, box.id.slice(0, -1)])
      expect((await runtime.get(name))?.id).toBe(box.id);
    expect((await runtime.list()).map(({ id }) => id)).toContain(box.id);
    expect((await runtime.list({ status: 'running' })).map(({ id }) => id)).toContain(box.id);
    expect(await runtime.list({ status: 'paused' })).toEqual([]);
    await expect(runtime.remove('Full-1')).rejects.toMatchObject({ code: 'invalid_state' });
    await runtime.remove('Full-1', { force: true });
    expect(await runtime.get('Full-1')).toBeNull();
    await expect(box.info()).rejects.toMatchObject({ code: 'not_found' });
    await expect(box.exec(['true'])).rejects.toMatchObject({ code: 'not_found' });
    await expect(runtime.remove('Full-1')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('are refused with what is wrong', async () => {
    const { runtime } = subject;
    const refused = (options: object, code: string) =>
      expect(runtime.create({ image: 'tiny', ...options })).rejects.toMatchObject({ code });
    await refused({ name: 'a/b' }, 'invalid_argument');
    await refused({ name: '' }, 'invalid_argument');
    await refused({ name: 'x'.repeat(129) }, 'invalid_argument');
    await refused({ cpus: 0 }, 'invalid_argument');
    await refused({ memoryMiB: 64 }, 'invalid_argument');
    await refused({ image: undefined }, 'invalid_argument');
    // Not here, so its registry is asked, and nobody answers there.
    await refused({ image: 'localhost:1/missing:1' }, 'network_unavailable');
  });

  it('have unique names', async () => {
    const { runtime } = subject;
    const { box, created } = await runtime.getOrCreate('only', { image: 'tiny', detach: true });
    expect(created).toBe(true);
    await expect(runtime.create({ image: 'tiny', name: 'only' })).rejects.toMatchObject({
      code: 'already_exists',
    });
    const again = await runtime.getOrCreate('only', { image: 'tiny' });
    expect([again.created, again.box.id]).toEqual([false, box.id]);
    await box.remove({ force: true });
  });

  it('stop and start, and keep their files', async () => {
    const { box } = subject;
    await box.exec(['sh', '-c', 'echo kept > /root/kept']);
    await box.stop();
    expect(await box.info()).toMatchObject({ status: 'stopped', pid: null, run: null });
    await box.stop();
    await box.start();
    await box.start();
    const { status, run, stages } = await box.info();
    expect(status).toBe('running');
    expect(run).not.toBeNull();
    expect(Object.keys(stages).length).toBeGreaterThan(0);
    expect((await box.exec(['cat', '/root/kept'])).stdout.toString()).toBe('kept\n');
  });

  it('that stand still are started by an exec', async () => {
    const { box } = subject;
    await box.stop();
    expect((await box.exec(['echo', 'up'])).stdout.toString()).toBe('up\n');
    expect((await box.info()).status).toBe('running');
  });

  it('say what they use, and the runtime what it did', async () => {
    const { box, runtime } = subject;
    await box.exec(['true']);
    const metrics = await box.metrics();
    expect(metrics.commandsExecutedTotal).toBeGreaterThan(0);
    expect(metrics.memoryBytes).toBeGreaterThan(0);
    const { intervalMs, points } = await box.metricsSeries();
    const last = points.at(-1);
    expect(last).toMatchObject({ cpuPercent: expect.any(Number), at: expect.any(Date) });
    expect(last?.memoryBytes).toBeGreaterThan(0);
    expect(last?.diskUsedBytes).toBeGreaterThan(0);
    expect(Date.now() - (last?.at.getTime() ?? 0)).toBeLessThan(20 * intervalMs);
    expect((await box.metricsSeries({ since: new Date(Date.now() + 60_000) })).points).toEqual([]);
    await expect(box.metricsSeries({ since: new Date(Number.NaN) })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    const all = await runtime.metrics();
    expect(all.boxesCreatedTotal).toBeGreaterThan(0);
    expect(all.commandsExecutedTotal).toBeGreaterThan(0);
    expect(all.runningBoxes).toBe((await runtime.list({ status: 'running' })).length);
    expect(typeof (await box.consoleLog())).toBe('string');
  });

  it('tell what happens to them', async () => {
    const { box, runtime } = subject;
    const stop = new AbortController();
    const seen: RuntimeEvent[] = [];
    const listening = (async () => {
      for await (const event of runtime.events({ signal: stop.signal })) {
        if (event.id === box.id) seen.push(event);
        if (seen.some(({ change }) => change === 'stopped')) return;
      }
    })();
    await box.exec(['true']);
    await box.stop();
    await listening;
    stop.abort();
    expect(seen.at(-1)).toMatchObject({ kind: 'box', change: 'stopped' });
    expect(seen.at(-1)?.at).toBeInstanceOf(Date);
    await box.start();
  });

  it('tell what was missed to who comes back with a position', async () => {
    const { box, runtime } = subject;
    await box.exec(['true']);
    const first = collect(runtime.events(), box.id, 'stopped');
    await box.stop();
    const stopped = (await first).at(-1);
    await box.start();
    const missed = await collect(runtime.events({ since: stopped?.position }), box.id, 'running');
    expect(missed.map(({ position }) => position)).not.toContain(stopped?.position);
    expect(missed.at(-1)).toMatchObject({ change: 'running' });
    const wrong = runtime.events({ since: 'nowhere' })[Symbol.asyncIterator]();
    await expect(wrong.next()).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('come and go with who made them, unless detached', async () => {
    const { runtime } = subject;
    let id: string;
    {
      const box = await runtime.create({ image: 'tiny' });
      id = box.id;
      await box[Symbol.asyncDispose]();
    }
    expect(await runtime.get(id)).toBeNull();
  });

  it('cancel what is no longer wanted', async () => {
    const { box, runtime } = subject;
    const signal = AbortSignal.abort();
    await expect(runtime.create({ image: 'tiny', signal })).rejects.toMatchObject({ code: 'cancelled' });
    await expect(box.exec(['true'], { signal })).rejects.toMatchObject({ code: 'cancelled' });
  });
});
