import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from './lab.js';

let lab: Lab;

beforeAll(async () => {
  lab = await Lab.open(128);
});
afterAll(async () => {
  await lab?.close();
});

describe('memory of a machine', () => {
  it('comes back from the golden layer', async () => {
    const t0 = performance.now();
    const running = await lab.resume(lab.golden);
    const t1 = performance.now();
    expect(await running.machine.run('echo hello')).toBe('hello');
    console.log(
      'resume',
      t1 - t0,
      'first',
      performance.now() - t1,
      running.sent,
      running.plan.streamBytes,
      lab.saved.blocks,
    );
    await running.machine.run('dd if=/dev/urandom of=/tmp/a bs=1M count=16 2>/dev/null');
    const sum = await running.machine.run('sha256sum /tmp/a');
    const t2 = performance.now();
    await running.machine.qmp.execute('stop');
    const t3 = performance.now();
    const res = await lab.capture(running);
    console.log('capture', performance.now() - t3, res.comparedPages, res.writtenBytes);
    await running.machine.qmp.execute('cont');
    const p = await lab.pause(running);
    const again = await lab.resume(p);
    expect(await again.machine.run('sha256sum /tmp/a')).toBe(sum);
    console.log(again.sent, again.plan.streamBytes, again.machine.stderr);
  });
});
