import { expect, it } from 'vitest';
import { type Box, mainExecution } from '../../src/api/index.js';
import { eventually } from '../conformance/support.js';
import { TestEngine } from './support.js';

const engine = new TestEngine();

/** Counts up, a line each 0.1 s. */
const counting = [
  'sh',
  '-c',
  'echo $$ > /tmp/pid; n=0; while :; do n=$((n+1)); echo $n > /tmp/n; echo $n; sleep 0.1; done',
];

/** Names the process: its number and when it began (proc(5), "stat"). */
async function pidOf(box: Box): Promise<string> {
  const { stdout } = await box.exec(['sh', '-c', 'cat /proc/$(cat /tmp/pid)/stat']);
  const fields = stdout.toString().split(' ');
  return `${fields[0]} ${fields[21]}`;
}

async function counted(box: Box): Promise<number> {
  return Number((await box.exec(['cat', '/tmp/n'])).stdout.toString());
}

it('kills a main command that does not end, and by signals as any command', async () => {
  const { runtime } = engine;
  const box = await runtime.create({
    image: 'tiny',
    entrypoint: ['sh', '-c'],
    cmd: ['trap "" TERM; echo up; while :; do sleep 1; done'],
  });
  try {
    await eventually(async () => expect((await box.mainOutput()).stdout.toString()).toBe('up\n'));
    await box.stop({ timeoutMs: 1_000 });
    expect((await box.info()).main).toMatchObject({ exitCode: null, signal: 9 });
    await box.start();
    await box.executions.signal(mainExecution, 'SIGKILL');
    await eventually(async () => expect((await box.info()).main).toMatchObject({ signal: 9 }));
    expect((await box.info()).status).toBe('running');
  } finally {
    await box.remove({ force: true });
  }
});

it('keeps the process of a main command in pause, resume and rollback, and in forks', async () => {
  const { runtime } = engine;
  const box = await runtime.create({ image: 'tiny', cmd: counting });
  const boxes = [box];
  try {
    await eventually(async () => expect(await counted(box)).toBeGreaterThan(1));
    const pid = await pidOf(box);
    await box.snapshot.create('moment', { memory: true });
    await box.pause();
    expect((await box.mainOutput()).stdout.toString()).toMatch(/^1\n2\n/);
    await box.resume();
    expect(await pidOf(box)).toBe(pid);
    const [child] = await box.fork({ count: 1 });
    if (!child || !('box' in child)) throw child?.error ?? new Error('no child');
    boxes.push(child.box);
    expect(await pidOf(child.box)).toBe(pid);
    const before = await counted(child.box);
    await eventually(async () => expect(await counted(child.box)).toBeGreaterThan(before));
    // Ended here, it runs again where the snapshot was taken.
    await box.executions.kill(mainExecution);
    await eventually(async () => expect((await box.info()).main).toMatchObject({ signal: 9 }));
    await box.snapshot.restore('moment', { live: true });
    expect((await box.info()).main).toMatchObject({ exitCode: null, signal: null });
    expect(await pidOf(box)).toBe(pid);
    expect((await child.box.info()).main).toMatchObject({ exitCode: null, signal: null });
  } finally {
    for (const each of boxes) await each.remove({ force: true });
  }
});
