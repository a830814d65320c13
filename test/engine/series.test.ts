import { describe, expect, it } from 'vitest';
import type { Box, MetricsPoint } from '../../src/api/index.js';
import { SeriesRing } from '../../src/engine/boxes/series-ring.js';
import { changed, TestEngine } from './support.js';

const point = (time: number): MetricsPoint => ({
  at: new Date(time),
  cpuPercent: time,
  memoryBytes: 2 ** 40 + time,
  diskUsedBytes: 3,
  networkBytesSent: 4,
  networkBytesReceived: 5,
});

const timesOf = (points: readonly MetricsPoint[]): number[] => points.map(({ at }) => at.getTime());

describe('a ring of points', () => {
  it('grows up to its limit, and then drops the oldest', () => {
    const ring = new SeriesRing(150);
    expect(ring.last).toBeUndefined();
    for (let time = 1; time <= 149; time += 1) ring.push(point(time));
    expect(timesOf(ring.after(0))).toEqual(Array.from({ length: 149 }, (_, i) => i + 1));
    for (let time = 150; time <= 400; time += 1) ring.push(point(time));
    expect(timesOf(ring.after(0))).toEqual(Array.from({ length: 150 }, (_, i) => i + 251));
    expect(ring.last).toEqual(point(400));
    expect(ring.after(398)).toEqual([point(399), point(400)]);
  });
});

describe('the series of a box', () => {
  const engine = new TestEngine();

  /** The series as soon as a point fits. */
  const until = async (
    box: Box,
    fits: (points: readonly MetricsPoint[]) => boolean,
  ): Promise<MetricsPoint[]> =>
    await expect
      .poll(
        async () => {
          const { points } = await box.metricsSeries();
          return fits(points) ? points : undefined;
        },
        { timeout: 40_000, interval: 500 },
      )
      .toBeDefined()
      .then(async () => [...(await box.metricsSeries()).points]);

  it('has points every few seconds, whose memory, disk and processors are those of its programs', {
    timeout: 120_000,
  }, async () => {
    await using box = await engine.runtime.create({ image: 'tiny', memoryMiB: 256 });
    const [first] = (await box.metricsSeries()).points;
    expect(first).toMatchObject({ cpuPercent: 0 });
    const before = first?.diskUsedBytes ?? 0;
    await box.exec(['sh', '-c', 'head -c 20000000 /dev/zero >/root/file; sync']);
    const busy = await box.startExec(['sh', '-c', 'while :; do :; done']);
    const points = await until(
      box,
      (all) =>
        all.some(({ cpuPercent }) => cpuPercent > 20) && (all.at(-1)?.diskUsedBytes ?? 0) > before + 15e6,
    );
    await busy.kill();
    const times = timesOf(points);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    const [, second] = points;
    expect((await box.metricsSeries({ since: second?.at })).points[0]?.at).toEqual(points[2]?.at);
  });

  it('is kept through a stop, has no points of that time, and keeps no box from being stopped', {
    timeout: 120_000,
  }, async () => {
    await using box = await engine.runtime.create({ image: 'tiny', memoryMiB: 256, autoStop: 12 });
    const stopped = changed(engine.runtime, box.id, 'stopped');
    expect((await box.metricsSeries()).points).toHaveLength(1);
    await stopped;
    const { points } = await box.metricsSeries();
    expect(points.length).toBeGreaterThan(1);
    await box.start();
    const later = await until(box, (all) => all.length > points.length);
    expect(later.slice(0, points.length)).toEqual(points);
  });

  it('is gone with its box', async () => {
    const box = await engine.runtime.create({ image: 'tiny' });
    await box.remove({ force: true });
    await expect(box.metricsSeries()).rejects.toMatchObject({ code: 'not_found' });
  });
});
