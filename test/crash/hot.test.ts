import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { machinesBelow } from '../../src/machine/index.js';
import { newHome } from '../support/home.js';
import { compile, operationLimitMs, runDriver, sample } from './crash.js';

/** Where a hot machine is in its course when its engine is killed. */
const points = [
  'hot.rehearse:before',
  'hot.rehearse:after',
  'hot.hand-over:before',
  'hot.hand-over:equipped',
  'hot.hand-over:after',
];

beforeAll(compile);

it('leaves a whole home when the engine is killed around a hand-over', {
  timeout: operationLimitMs,
}, async () => {
  await using home = await newHome();
  for (const point of sample(points)) {
    expect(await runDriver({ home: home.path, act: 'hot', kill: { point, hit: 1 } })).toBe(true);
    await using engine = await Engine.open({ home: home.path, poolSize: 0 });
    const runtime = engine.runtime();
    const running = (await runtime.list()).filter(({ status }) => status === 'running');
    // Machines of no box have been ended, those of boxes go on.
    expect(await machinesBelow(join(home.path, 'machines'))).toHaveLength(running.length);
    expect((await runtime.verify()).problems).toEqual([]);
    for (const { id } of await runtime.list()) {
      const box = await runtime.get(id);
      if ((await box?.info())?.status !== 'running') await box?.start();
      expect((await box?.exec(['echo', 'up']))?.stdout.toString()).toBe('up\n');
      await box?.remove({ force: true });
    }
  }
});
