import { expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { failureOf, output } from './support.js';
import { tightHome } from './tight-disk.js';

async function told(runtime: Runtime, box: Box, change: string): Promise<void> {
  for await (const event of runtime.events()) if (event.id === box.id && event.change === change) return;
}

it('says that the disk of the host is full, refuses what cannot be, and goes on by itself', {
  timeout: 240_000,
}, async () => {
  await using home = await tightHome(900);
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny' });
  await output(box, 'echo early > /root/early; sync');
  const { run, pid } = await box.info();
  const full = told(runtime, box, 'disk_full');
  await home.fill(4000);
  const script =
    'head -c 60000000 /dev/urandom > /root/big; sync; md5sum < /root/big > /root/sum; sync; echo all';
  const writing = output(box, script);
  await full;

  const info = await box.info();
  expect(info).toMatchObject({ status: 'running', pid });
  expect(info.failure).toContain('full');
  for (const call of [
    () => box.exec(['true']),
    () => box.snapshot.create('s'),
    () => box.snapshot.create('m', { memory: true }),
    () => box.pause(),
    () => box.clone('c'),
    () => box.fork({ count: 1 }),
  ]) {
    const started = performance.now();
    expect((await failureOf(call())).code).toBe('disk_full');
    expect(performance.now() - started).toBeLessThan(10_000);
  }
  expect(await box.snapshot.list()).toEqual([]);
  expect(await box.info()).toMatchObject({ status: 'running', pid, run });

  const goesOn = told(runtime, box, 'running');
  await home.empty();
  await goesOn;
  expect(await writing).toBe('all');
  expect(await box.info()).toMatchObject({ failure: null, pid, run });
  expect(await output(box, 'cat /root/early; md5sum < /root/big | cmp - /root/sum && echo same')).toBe(
    'early\nsame',
  );
  await box.stop();
  expect((await box.snapshot.create('s')).consistency).toBe('clean');
});

it('takes over a box that stands still for room, also while there is none', {
  timeout: 240_000,
}, async () => {
  await using home = await tightHome(900);
  let engine = await Engine.open({ home: home.path, poolSize: 0 });
  try {
    const box = await engine.runtime().create({ image: 'tiny', detach: true });
    const { run, pid } = await box.info();
    const full = told(engine.runtime(), box, 'disk_full');
    await home.fill(4000);
    const script =
      'head -c 60000000 /dev/urandom > /root/big; sync; md5sum < /root/big > /root/sum; sync; touch /run/all';
    await (await box.startExec(['sh', '-c', script])).detach();
    await full;
    await engine.close();

    engine = await Engine.open({ home: home.path, poolSize: 0 });
    const found = await engine.runtime().get(box.id);
    expect(await found?.info()).toMatchObject({ status: 'running', run, pid });
    await expect.poll(async () => (await found?.info())?.failure, { timeout: 30_000 }).toContain('full');
    expect((await failureOf(found?.exec(['true']) ?? Promise.resolve())).code).toBe('disk_full');
    const goesOn = told(engine.runtime(), box, 'running');
    await home.empty();
    await goesOn;
    const whole =
      'until [ -e /run/all ]; do usleep 50000; done; md5sum < /root/big | cmp - /root/sum && echo same';
    expect(found && (await output(found, whole))).toBe('same');
    expect(await found?.info()).toMatchObject({ failure: null, run, pid });
    await found?.remove({ force: true });
  } finally {
    await engine.close();
  }
});

it('calls a snapshot clean only when the file system was unmounted', async () => {
  await using home = await tightHome(900);
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny' });
  await output(box, 'echo x > /root/file; sync');
  await box.pause();
  expect((await box.snapshot.create('paused')).consistency).toBe('crash');
  await box.resume();
  const failed = told(runtime, box, 'failed');
  process.kill((await box.info()).pid ?? 0, 'SIGKILL');
  await failed;
  await box.stop();
  expect((await box.snapshot.create('cut-off')).consistency).toBe('crash');
  await box.start();
  await box.stop();
  expect((await box.snapshot.create('stopped')).consistency).toBe('clean');
});
