import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Box, ForkResult } from '../../src/api/index.js';
import { ask, startProgram } from './memory-program.js';
import { failureOf, output, TestEngine } from './support.js';

const engine = new TestEngine();

function boxesOf(results: readonly ForkResult[]): Box[] {
  return results.map((result) => {
    if ('error' in result) throw result.error;
    return result.box;
  });
}

/** Bytes that the program of a test holds. */
const programBytes = 8_000_000;

async function started(): Promise<Box> {
  const box = await engine.runtime.create({ image: 'debian-python', name: `parent-${Date.now()}` });
  await startProgram(box, programBytes);
  return box;
}

/** What makes keys when a system has none, as `ssh-keygen -A` does. */
const keygen = '#!/bin/sh\nhead -c 32 /dev/urandom | base64 > /etc/ssh/ssh_host_ed25519_key\n';

/** What must be another one in each box, a line each. */
const identity = `test -e /root/before
echo random=$(head -c 16 /dev/urandom | sha256sum)
echo uuid=$(python3 -c 'import uuid; print(uuid.uuid4())')
echo machine=$(cat /etc/machine-id)
echo hostname=$(hostname)
echo mac=$(cat /sys/class/net/eth0/address)
echo key=$(cat /etc/ssh/ssh_host_ed25519_key)`;

it('forks a running program into 8 boxes that differ in what must differ', { timeout: 180_000 }, async () => {
  const parent = await started();
  await parent.files.write('/usr/bin/ssh-keygen', keygen, { mode: 0o755 });
  await output(parent, 'mkdir -p /etc/ssh; ssh-keygen; touch /root/before');
  for (let i = 0; i < 3; i += 1) await ask(parent, 'change');
  const expected = await ask(parent, 'look');
  expect(expected).toMatch(/^3 /);
  const { run } = await parent.info();

  const results = await parent.fork({ count: 8, names: ['one', 'two'] });
  const boxes = boxesOf(results);
  expect(boxes.map((box) => box.name)).toEqual(['one', 'two', ...Array.from({ length: 6 }, () => null)]);
  expect((await parent.info()).run).toBe(run);
  const all = [parent, ...boxes];
  const facts = new Map<string, string[]>([['run', []]]);
  for (const box of all) {
    expect((await box.info()).status).toBe('running');
    expect(await ask(box, 'look')).toBe(expected);
    for (const line of (await output(box, identity)).split('\n')) {
      const [what = '', fact = ''] = line.split('=');
      facts.set(what, [...(facts.get(what) ?? []), fact]);
    }
    facts.get('run')?.push((await box.info()).run ?? '');
  }
  expect(facts.size).toBe(7);
  for (const [what, seen] of facts) expect(new Set(seen).size, `${what}: ${seen.join(' ')}`).toBe(all.length);
  // The program itself takes other random bytes in each, and counts on from the parent's counter.
  const changed: string[] = [];
  for (const box of all) changed.push(await ask(box, 'change'));
  for (const answer of changed) expect(answer).toMatch(/^4 /);
  expect(new Set(changed).size).toBe(all.length);
  // What one does is not seen by another.
  await output(parent, 'rm /root/before');
  for (const box of boxes) await output(box, 'test -e /root/before');
  await Promise.all(all.map((box) => box.remove({ force: true })));
});

it('forks a paused box, which stays paused', { timeout: 120_000 }, async () => {
  const parent = await started();
  const expected = await ask(parent, 'look');
  await parent.pause();
  const boxes = boxesOf(await parent.fork({ count: 2 }));
  expect((await parent.info()).status).toBe('paused');
  for (const box of boxes) expect(await ask(box, 'look')).toBe(expected);
  for (const box of [parent, ...boxes]) await box.remove({ force: true });
});

it('rolls back memory and disk in place, also after restarts of the machine', {
  timeout: 120_000,
}, async () => {
  const box = await started();
  await output(box, 'echo before > /root/file; sync');
  const expected = await ask(box, 'change');
  const before = await box.info();
  const snapshot = await box.snapshot.create('point', { memory: true });
  expect(snapshot).toMatchObject({ hasMemory: true });
  expect(snapshot.guestPauseMs).toBeGreaterThan(0);
  expect((await box.info()).run).toBe(before.run);

  await output(box, 'rm /root/file; sync');
  expect(await ask(box, 'change')).not.toBe(expected);
  await box.snapshot.restore('point', { live: true });
  expect(await box.info()).toMatchObject({ id: before.id, status: 'running', run: before.run });
  expect(await output(box, 'cat /root/file')).toBe('before');
  expect(await ask(box, 'look')).toBe(expected);

  await output(box, 'kill -9 $(pidof python3)');
  await box.pause();
  const [child] = boxesOf(await box.fork({ count: 1, fromSnapshot: 'point' }));
  if (!child) throw new Error('no child');
  expect(await output(child, 'cat /root/file')).toBe('before');
  expect(await ask(child, 'look')).toBe(expected);
  await box.stop();
  expect((await box.info()).status).toBe('stopped');
  await box.snapshot.restore('point', { live: true });
  expect(await ask(box, 'look')).toBe(expected);
  await child.remove({ force: true });
  await box.remove({ force: true });
});

it('makes boxes from a template, which outlives its source', async () => {
  const { runtime } = engine;
  const source = await started();
  const made = await runtime.templates.create({ box: source.id, name: 'warm' });
  expect(made).toMatchObject({
    name: 'warm',
    type: 'memory',
    cpus: 1,
    memoryMiB: 512,
    image: 'docker.io/library/debian-python:latest',
  });
  expect((await failureOf(runtime.templates.create({ box: source.id, name: 'warm' }))).code).toBe(
    'already_exists',
  );
  const generated = await runtime.templates.create({ box: source.id });
  expect(generated.name).not.toBe('');
  await source.remove({ force: true });
  expect(await runtime.templates.list()).toHaveLength(2);
  const box = await runtime.create({ template: 'warm', name: 'from-template', env: { EXTRA: '1' } });
  expect(await box.info()).toMatchObject({
    template: 'warm',
    status: 'running',
    image: 'debian-python',
  });
  await output(box, 'pidof python3');
  expect(await output(box, 'echo $EXTRA')).toBe('1');
  expect(await output(box, 'hostname')).toBe('from-template');
  expect((await failureOf(runtime.create({ template: 'warm', memoryMiB: 1024 }))).code).toBe(
    'invalid_argument',
  );
  expect((await failureOf(runtime.create({ template: 'none' }))).code).toBe('not_found');
  await runtime.templates.remove('warm');
  expect(await runtime.templates.get('warm')).toBeNull();
  await runtime.gc();
  await box.pause();
  await output(box, 'pidof python3');
  await box.remove({ force: true });
  await runtime.templates.remove(generated.name);
}, 120_000);

it('makes whole boxes or none of a template that is being removed', { timeout: 120_000 }, async () => {
  const { runtime } = engine;
  const source = await runtime.create({ image: 'tiny' });
  await output(source, 'head -c 4000000 /dev/urandom > /dev/shm/data');
  const sum = await output(source, 'md5sum < /dev/shm/data');
  for (let round = 0; round < 4; round += 1) {
    const { name } = await runtime.templates.create({ box: source.id });
    const makes = Array.from({ length: 3 }, () => runtime.create({ template: name }));
    const removal = (async () => {
      await sleep(round * 15);
      await runtime.templates.remove(name);
      await runtime.gc();
    })();
    for (const made of await Promise.allSettled(makes)) {
      if (made.status === 'rejected') expect(made.reason).toMatchObject({ code: 'not_found' });
      else {
        expect(await output(made.value, 'md5sum < /dev/shm/data')).toBe(sum);
        await made.value.remove({ force: true });
      }
    }
    await removal;
  }
  await source.remove({ force: true });
  await runtime.gc();
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
});
