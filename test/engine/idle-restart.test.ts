import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';
import { startEngine } from './engine-process.js';

/** Resolves with the time at which a box is said to be stopped; listens from now on. */
async function stoppedAt(engine: Engine, boxId: string): Promise<number> {
  for await (const event of engine.runtime().events()) {
    if (event.id === boxId && event.change === 'stopped') return event.at.getTime();
  }
  return Number.NaN;
}

it('does not stop a box whose command runs on after the engine was killed', {
  timeout: 120_000,
}, async () => {
  await using home = await newHome();
  const { connectRuntime } = await import('../../src/remote/index.js');
  const first = await startEngine(home.path);
  const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
  const box = await client.create({ image: 'tiny', name: 'busy', autoStop: 2, detach: true });
  const execution = await box.startExec([
    'sh',
    '-c',
    'while [ ! -e /root/go ]; do sleep 0.1; done; echo end',
  ]);
  // Longer than the box may be idle: only the running command keeps it.
  await delay(4_000);
  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  await client.close();

  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const again = await engine.runtime().get('busy');
  if (!again) throw new Error('the box is gone');
  await delay(4_000);
  expect((await again.info()).status).toBe('running');
  expect(await again.executions.get(execution.id)).toMatchObject({ status: 'running' });
  const stopped = stoppedAt(engine, again.id);
  await again.files.write('/root/go', '');
  const ended = Date.now();
  expect((await stopped) - ended).toBeGreaterThan(1_900);
  await again.remove();
});

it('counts from its start what an engine used that was killed', { timeout: 120_000 }, async () => {
  await using home = await newHome();
  const { connectRuntime } = await import('../../src/remote/index.js');
  const first = await startEngine(home.path);
  const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
  const box = await client.create({ image: 'tiny', name: 'copied', autoStop: 2, detach: true });
  async function* forEver(): AsyncGenerator<Uint8Array> {
    for (;;) {
      yield Buffer.alloc(1024);
      await delay(50);
    }
  }
  const written = box.files.write('/root/long', forEver()).catch((error: unknown) => error);
  await delay(4_000);
  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  await written;
  await client.close();

  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const opened = Date.now();
  const stopped = stoppedAt(engine, box.id);
  const again = await engine.runtime().get('copied');
  expect((await again?.info())?.status).toBe('running');
  expect((await stopped) - opened).toBeGreaterThan(1_500);
  await again?.remove();
});
