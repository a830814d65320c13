import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';
import { startEngine } from './engine-process.js';

it('takes over machines and running commands after the engine was killed', async () => {
  await using home = await newHome();
  const { connectRuntime } = await import('../../src/remote/index.js');
  const first = await startEngine(home.path);
  const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
  const box = await client.create({ image: 'tiny', name: 'survivor', detach: true });
  const diskLimits = { readBytesPerSecond: 50_000_000 };
  await box.limitDisk(diskLimits);
  const before = await box.info();
  const script = 'echo started; while [ ! -e /root/go ]; do sleep 0.05; done; echo finished; exit 3';
  const execution = await box.startExec(['sh', '-c', script]);
  for await (const chunk of execution.stdout) {
    expect(Buffer.from(chunk).toString()).toBe('started\n');
    break;
  }
  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  await client.close();

  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const again = await engine.runtime().get('survivor');
  if (!again) throw new Error('the box is gone');
  const after = await again.info();
  expect(after).toMatchObject({
    id: before.id,
    status: 'running',
    pid: before.pid,
    run: before.run,
    operation: null,
    diskLimits,
  });
  const attached = await again.executions.attach(execution.id);
  await again.files.write('/root/go', '');
  let output = '';
  for await (const chunk of attached.stdout) output += Buffer.from(chunk).toString();
  expect(output).toBe('started\nfinished\n');
  expect(await attached.wait()).toMatchObject({ exitCode: 3 });
  expect(await again.executions.get(execution.id)).toMatchObject({ status: 'completed', exitCode: 3 });
  await again.remove({ force: true });
});

it('lets go of machines when it closes, and the next engine has them', async () => {
  await using home = await newHome();
  let run: string | null;
  {
    await using engine = await Engine.open({ home: home.path, poolSize: 1 });
    const box = await engine.runtime().create({ image: 'tiny', name: 'kept', detach: true });
    ({ run } = await box.info());
  }
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().get('kept');
  expect((await box?.info())?.run).toBe(run);
  expect((await box?.exec(['echo', 'here']))?.stdout.toString()).toBe('here\n');
  await box?.remove({ force: true });
});

it('calls a box failed whose machine died while no engine was there', async () => {
  await using home = await newHome();
  let pid: number | null;
  {
    await using engine = await Engine.open({ home: home.path, poolSize: 0 });
    const box = await engine.runtime().create({ image: 'tiny', name: 'lost', detach: true });
    ({ pid } = await box.info());
  }
  process.kill(pid ?? 0, 'SIGKILL');
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().get('lost');
  expect(await box?.info()).toMatchObject({ status: 'failed', pid: null });
  await box?.start();
  expect((await box?.exec(['true']))?.exitCode).toBe(0);
  await box?.remove({ force: true });
});
