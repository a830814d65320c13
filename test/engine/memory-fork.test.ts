import { expect, it } from 'vitest';
import type { Box, ForkResult } from '../../src/api/index.js';
import { failureOf, TestEngine } from './support.js';

const engine = new TestEngine();

/** A counter that starts when it is told to, and 20 MB of random bytes. */
const program = `
import os, time, hashlib, sys
data = os.urandom(20_000_000)
open('/root/hash', 'w').write(hashlib.sha256(data).hexdigest())
n = 0
while True:
    n += 1
    open('/tmp/n.new', 'w').write(str(n))
    os.rename('/tmp/n.new', '/tmp/n')
    if os.path.exists('/root/check'):
        open('/root/checked', 'w').write(hashlib.sha256(data).hexdigest())
        os.remove('/root/check')
    time.sleep(0.05)
`;

const text = async (box: Box, ...argv: string[]): Promise<string> => {
  const { stdout, stderr, exitCode } = await box.exec(argv);
  if (exitCode !== 0) throw new Error(`${argv.join(' ')}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
};

function boxesOf(results: readonly ForkResult[]): Box[] {
  return results.map((result) => {
    if ('error' in result) throw result.error;
    return result.box;
  });
}

async function started(): Promise<Box> {
  const box = await engine.runtime.create({ image: 'debian-python', name: `parent-${Date.now()}` });
  await box.files.write('/root/program.py', program);
  await box.startExec(['python3', '/root/program.py']);
  await box.exec(['sh', '-c', 'until [ -e /tmp/n ]; do sleep 0.05; done']);
  return box;
}

it('forks a running program into boxes that differ in what must differ', async () => {
  const parent = await started();
  const results = await parent.fork({ count: 4, names: ['one', 'two'] });
  const boxes = boxesOf(results);
  expect(boxes.map((box) => box.name)).toEqual(['one', 'two', null, null]);
  const n = Number(await text(parent, 'cat', '/tmp/n'));
  const all = [parent, ...boxes];
  for (const box of boxes) {
    expect(Number(await text(box, 'cat', '/tmp/n'))).toBeGreaterThan(0);
    expect(Number(await text(box, 'cat', '/tmp/n'))).toBeLessThan(n + 1000);
    await text(box, 'touch', '/root/check');
    await text(
      box,
      'sh',
      '-c',
      'until [ -s /root/checked ]; do sleep 0.05; done; cmp /root/hash /root/checked',
    );
  }
  const distinct = async (...argv: string[]): Promise<void> => {
    const seen = await Promise.all(all.map((box) => text(box, ...argv)));
    expect(new Set(seen).size, `${argv.join(' ')}: ${seen.join(' ')}`).toBe(all.length);
  };
  await distinct('sh', '-c', 'head -c 16 /dev/urandom | sha256sum');
  await distinct('python3', '-c', 'import uuid; print(uuid.uuid4())');
  await distinct('cat', '/etc/machine-id');
  await distinct('hostname');
  await distinct('cat', '/sys/class/net/eth0/address');
  expect(new Set(await Promise.all(all.map(async (box) => (await box.info()).run))).size).toBe(all.length);
  await Promise.all(all.map((box) => box.remove({ force: true })));
}, 120_000);

it('rolls back memory and disk in place, also after restarts of the machine', async () => {
  const box = await started();
  await text(box, 'sh', '-c', 'echo before > /root/file; sync');
  const before = await box.info();
  const snapshot = await box.snapshot.create('point', { memory: true });
  expect(snapshot).toMatchObject({ hasMemory: true });
  expect(snapshot.guestPauseMs).toBeGreaterThan(0);
  expect((await box.info()).run).toBe(before.run);
  const n = Number(await text(box, 'cat', '/tmp/n'));
  await text(box, 'sh', '-c', 'rm /root/file; pkill python3 || kill $(pidof python3)');
  await box.snapshot.restore('point', { live: true });
  expect(await box.info()).toMatchObject({ id: before.id, status: 'running', run: before.run });
  expect(await text(box, 'cat', '/root/file')).toBe('before');
  expect(Number(await text(box, 'cat', '/tmp/n'))).toBeLessThan(n + 100);
  await text(box, 'pidof', 'python3');

  await box.pause();
  const [child] = boxesOf(await box.fork({ count: 1, fromSnapshot: 'point' }));
  if (!child) throw new Error('no child');
  expect(await text(child, 'cat', '/root/file')).toBe('before');
  await box.stop();
  expect((await box.info()).status).toBe('stopped');
  await box.snapshot.restore('point', { live: true });
  await text(box, 'pidof', 'python3');
  await child.remove({ force: true });
  await box.remove({ force: true });
}, 120_000);

it('makes boxes from a template, which outlives its source', async () => {
  const { runtime } = engine;
  const source = await started();
  const { image } = await source.info();
  const made = await runtime.templates.create({ box: source.id, name: 'warm' });
  expect(made).toMatchObject({
    name: 'warm',
    type: 'memory',
    cpus: 1,
    memoryMiB: 512,
    image,
  });
  expect((await failureOf(runtime.templates.create({ box: source.id, name: 'warm' }))).code).toBe(
    'already_exists',
  );
  const generated = await runtime.templates.create({ box: source.id });
  expect(generated.name).not.toBe('');
  await source.remove({ force: true });
  expect(await runtime.templates.list()).toHaveLength(2);
  const box = await runtime.create({ template: 'warm', name: 'from-template', env: { EXTRA: '1' } });
  expect(await box.info()).toMatchObject({ template: 'warm', status: 'running', image });
  await text(box, 'pidof', 'python3');
  expect(await text(box, 'sh', '-c', 'echo $EXTRA')).toBe('1');
  expect(await text(box, 'hostname')).toBe('from-template');
  expect((await failureOf(runtime.create({ template: 'warm', memoryMiB: 1024 }))).code).toBe(
    'invalid_argument',
  );
  expect((await failureOf(runtime.create({ template: 'none' }))).code).toBe('not_found');
  await runtime.templates.remove('warm');
  expect(await runtime.templates.get('warm')).toBeNull();
  await runtime.gc();
  await box.pause();
  await text(box, 'pidof', 'python3');
  await box.remove({ force: true });
  await runtime.templates.remove(generated.name);
}, 120_000);
