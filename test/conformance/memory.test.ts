import { expect, it } from 'vitest';
import type { Box, ForkResult } from '../../src/api/index.js';
import { conformance } from './support.js';

const output = async (box: Box, script: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await box.exec(['sh', '-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
};

/** Starts a shell that answers lines of a file with what it holds in a variable; gives its process id. */
async function startProgram(box: Box, secret: string): Promise<string> {
  await output(box, '[ -e /tmp/pid ] && kill -9 $(cat /tmp/pid); rm -f /tmp/ask /tmp/pid /tmp/answer');
  const program = `echo $$ > /tmp/pid; while true; do if [ -e /tmp/ask ]; then rm /tmp/ask; echo ${secret} > /tmp/answer; fi; usleep 20000; done`;
  await (await box.startExec(['sh', '-c', program])).detach();
  return await output(box, 'until [ -s /tmp/pid ]; do usleep 20000; done; cat /tmp/pid');
}

/** What the program holds, which only its memory knows. */
const ask = (box: Box): Promise<string> =>
  output(
    box,
    'rm -f /tmp/answer; touch /tmp/ask; until [ -s /tmp/answer ]; do usleep 20000; done; cat /tmp/answer',
  );

function boxesOf(results: readonly ForkResult[]): Box[] {
  return results.map((result) => {
    if ('error' in result) throw result.error;
    return result.box;
  });
}

conformance('memory', (subject) => {
  it('goes to disk in a pause and comes back with its processes', async () => {
    const { box, runtime } = subject;
    const pid = await startProgram(box, 'kept');
    const { run } = await box.info();
    await box.pause();
    const paused = await box.info();
    expect(paused).toMatchObject({ status: 'paused', pid: null, run: null, operation: null });
    expect(paused.storage.memoryBytes).toBeGreaterThan(0);
    expect((await runtime.list({ status: 'paused' })).map(({ id }) => id)).toEqual([box.id]);
    await expect(box.pause()).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(box.start()).rejects.toMatchObject({ code: 'invalid_state' });
    const resumed = await box.resume({ pager: 'mmap' });
    expect(resumed).toMatchObject({ pager: 'mmap', resumed: true });
    expect(Object.keys(resumed.stages).length).toBeGreaterThan(0);
    expect(await box.resume()).toMatchObject({ resumed: false });
    expect(await box.info()).toMatchObject({ status: 'running', run });
    expect([await ask(box), await output(box, 'cat /tmp/pid')]).toEqual(['kept', pid]);
  });

  it('comes back by itself for a command, and is given up when asked', async () => {
    const { box } = subject;
    await startProgram(box, 'woken');
    await box.pause();
    expect(await ask(box)).toBe('woken');
    const { run } = await box.info();
    await box.pause();
    await box.start({ discardMemory: true });
    // Files may be there or not, as the guest had written them to its disk; nothing of its memory is.
    expect([null, run]).not.toContain((await box.info()).run);
    await box.stop();
    await expect(box.resume()).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(box.fork({ count: 1 })).rejects.toMatchObject({ code: 'invalid_state' });
    await box.start();
  });

  it('is in a snapshot when asked for, and is rolled back to under the same id', async () => {
    const { box } = subject;
    const pid = await startProgram(box, 'before');
    await box.files.write('/root/state', 'before');
    const taken = await box.snapshot.create('with memory', { memory: true });
    expect(taken).toMatchObject({ hasMemory: true, boxId: box.id });
    const { run } = await box.info();
    await box.files.write('/root/state', 'after');
    await startProgram(box, 'after');
    await box.snapshot.restore('with memory', { live: true });
    expect(await box.info()).toMatchObject({ id: box.id, status: 'running', run });
    expect([await ask(box), await output(box, 'cat /tmp/pid')]).toEqual(['before', pid]);
    expect((await box.files.read('/root/state')).toString()).toBe('before');
    await box.snapshot.create('without');
    await expect(box.snapshot.restore('without', { live: true })).rejects.toMatchObject({
      code: 'invalid_state',
    });
    await box.snapshot.remove('without');
    expect((await box.snapshot.get('with memory'))?.hasMemory).toBe(true);
  });

  it('is forked into boxes with the processes and an identity of their own', async () => {
    const { box, runtime } = subject;
    await startProgram(box, 'shared');
    const results = await box.fork({ count: 2, names: ['child-1'] });
    const children = boxesOf(results);
    expect(children.map(({ name }) => name)).toEqual(['child-1', null]);
    for (const child of children) {
      expect((await child.info()).status).toBe('running');
      expect(await ask(child)).toBe('shared');
      await output(child, 'echo own > /root/own');
    }
    const hosts = await Promise.all([box, ...children].map((each) => output(each, 'hostname')));
    expect(new Set(hosts).size).toBe(3);
    expect((await box.exec(['test', '-e', '/root/own'])).exitCode).toBe(1);
    expect(await ask(box)).toBe('shared');
    const taken = await box.fork({ count: 1, names: ['child-1'] });
    expect(taken).toMatchObject([{ error: { code: 'already_exists' } }]);
    const [earlier] = boxesOf(await box.fork({ count: 1, fromSnapshot: 'with memory' }));
    if (!earlier) throw new Error('no child');
    expect(await ask(earlier)).toBe('before');
    await expect(box.fork({ count: 1, fromSnapshot: 'none' })).rejects.toMatchObject({ code: 'not_found' });
    await expect(box.fork({ count: 0 })).rejects.toMatchObject({ code: 'invalid_argument' });
    for (const child of [...children, earlier]) await runtime.remove(child.id, { force: true });
    await box.snapshot.remove('with memory');
  });

  it('is what templates are made of', async () => {
    const { box, runtime } = subject;
    await startProgram(box, 'template');
    const made = await runtime.templates.create({ box: box.id, name: 'tpl', labels: { of: 'a test' } });
    expect(made).toMatchObject({
      name: 'tpl',
      type: 'memory',
      cpus: 1,
      memoryMiB: 512,
      labels: { of: 'a test' },
    });
    expect(await runtime.templates.get('tpl')).toMatchObject({ labels: { of: 'a test' } });
    const manyLabels = Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`l${at}`, '']));
    await expect(runtime.templates.create({ box: box.id, labels: manyLabels })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await expect(runtime.templates.create({ box: box.id, name: 'tpl' })).rejects.toMatchObject({
      code: 'already_exists',
    });
    const again = await runtime.templates.create({ box: box.id, name: 'tpl', overwrite: true });
    expect(again.createdAt.getTime()).toBeGreaterThanOrEqual(made.createdAt.getTime());
    expect((await runtime.templates.list()).map(({ name }) => name)).toEqual(['tpl']);
    expect(await runtime.templates.list({ type: 'memory' })).toMatchObject([{ name: 'tpl' }]);
    expect(await runtime.templates.get('tpl')).toMatchObject({
      name: 'tpl',
      sizeBytes: again.sizeBytes,
      labels: {},
    });
    expect(await runtime.templates.get('none')).toBeNull();
    const fresh = await runtime.create({ template: 'tpl', name: 'from-template', detach: true });
    expect(await fresh.info()).toMatchObject({ template: 'tpl', status: 'running', memoryMiB: 512 });
    expect(await ask(fresh)).toBe('template');
    const locked = runtime.create({ template: 'tpl', memoryMiB: 1024 });
    await expect(locked).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(runtime.create({ template: 'none' })).rejects.toMatchObject({ code: 'not_found' });
    await expect(runtime.templates.create({ box: 'none' })).rejects.toMatchObject({ code: 'not_found' });
    await box.stop();
    await expect(runtime.templates.create({ box: box.id })).rejects.toMatchObject({ code: 'invalid_state' });
    await runtime.templates.remove('tpl');
    await expect(runtime.templates.remove('tpl')).rejects.toMatchObject({ code: 'not_found' });
    expect(await ask(fresh)).toBe('template');
    await fresh.remove({ force: true });
    await box.start();
  });

  it('is captured once for a call that is made again', async () => {
    const { box, runtime } = subject;
    const operationId = `opn_${'0'.repeat(10)}${box.id.slice(-16)}`;
    const first = boxesOf(await box.fork({ count: 2, operationId }));
    const second = boxesOf(await box.fork({ count: 2, operationId }));
    expect(second.map(({ id }) => id)).toEqual(first.map(({ id }) => id));
    for (const { id } of first) await runtime.remove(id, { force: true });
  });
});
