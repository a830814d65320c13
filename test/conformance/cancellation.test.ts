import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Box, CallOptions, Runtime } from '../../src/api/index.js';
import { conformance, type Subject } from './support.js';

type Call = (subject: { runtime: Runtime; box: Box }, options: CallOptions) => Promise<unknown>;

const nowhere = join(tmpdir(), 'cryobox-cancelled');

/** Every operation that takes a signal. None of them may do anything when it was raised before. */
const operations: Record<string, Call> = {
  'runtime.create': ({ runtime }, o) => runtime.create({ image: 'tiny', name: 'cancelled', ...o }),
  'runtime.getOrCreate': ({ runtime }, o) => runtime.getOrCreate('cancelled', { image: 'tiny', ...o }),
  'runtime.get': ({ runtime, box }, o) => runtime.get(box.id, o),
  'runtime.list': ({ runtime }, o) => runtime.list(o),
  'runtime.remove': ({ runtime, box }, o) => runtime.remove(box.id, { force: true, ...o }),
  'runtime.metrics': ({ runtime }, o) => runtime.metrics(o),
  'runtime.gc': ({ runtime }, o) => runtime.gc(o),
  'runtime.verify': ({ runtime }, o) => runtime.verify(o),
  'runtime.import': ({ runtime }, o) => runtime.import(nowhere, o),
  'runtime.adopt': ({ runtime }, o) => runtime.adopt(nowhere, { box: 'cancelled', ...o }),
  'images.pull': ({ runtime }, o) => runtime.images.pull('127.0.0.1:1/nothing', o),
  'images.build': ({ runtime }, o) => runtime.images.build('none', { dockerfileText: 'FROM tiny', ...o }),
  'images.list': ({ runtime }, o) => runtime.images.list(o),
  'images.get': ({ runtime }, o) => runtime.images.get('tiny', o),
  'images.remove': ({ runtime }, o) => runtime.images.remove('tiny', { force: true, ...o }),
  'images.prune': ({ runtime }, o) => runtime.images.prune(o),
  'templates.create': ({ runtime, box }, o) => runtime.templates.create({ box: box.id, name: 'c', ...o }),
  'templates.list': ({ runtime }, o) => runtime.templates.list(o),
  'templates.get': ({ runtime }, o) => runtime.templates.get('c', o),
  'templates.remove': ({ runtime }, o) => runtime.templates.remove('c', o),
  'volumes.create': ({ runtime }, o) => runtime.volumes.create({ name: 'cancelled', ...o }),
  'volumes.list': ({ runtime }, o) => runtime.volumes.list(o),
  'volumes.get': ({ runtime }, o) => runtime.volumes.get('cancelled', o),
  'volumes.remove': ({ runtime }, o) => runtime.volumes.remove('cancelled', o),
  'box.info': ({ box }, o) => box.info(o),
  'box.metrics': ({ box }, o) => box.metrics(o),
  'box.metricsSeries': ({ box }, o) => box.metricsSeries(o),
  'box.start': ({ box }, o) => box.start(o),
  'box.stop': ({ box }, o) => box.stop(o),
  'box.rename': ({ box }, o) => box.rename('cancelled', o),
  'box.limitDisk': ({ box }, o) => box.limitDisk({}, o),
  'box.remove': ({ box }, o) => box.remove({ force: true, ...o }),
  'box.exec': ({ box }, o) => box.exec(['touch', '/tmp/cancelled'], o),
  'box.startExec': ({ box }, o) => box.startExec(['touch', '/tmp/cancelled'], o),
  'box.diff': ({ box }, o) => box.diff(o),
  'box.clone': ({ box }, o) => box.clone('cancelled', o),
  'box.release': ({ box }, o) => box.release(o),
  'box.export': ({ box }, o) => box.export(nowhere, o),
  'box.exportStream': ({ box }, o) => box.exportStream(o),
  'box.pause': ({ box }, o) => box.pause(o),
  'box.resume': ({ box }, o) => box.resume(o),
  'box.fork': ({ box }, o) => box.fork({ count: 1, names: ['cancelled'], ...o }),
  'box.dial': ({ box }, o) => box.dial(1, o),
  'network.info': ({ box }, o) => box.network.info(o),
  'network.update': ({ box }, o) => box.network.update({ outbound: 'disabled', ...o }),
  'network.setInbound': ({ box }, o) => box.network.setInbound('public', o),
  'ports.list': ({ box }, o) => box.ports.list(o),
  'ports.publish': ({ box }, o) => box.ports.publish({ guestPort: 80, ...o }),
  'ports.unpublish': ({ box }, o) => box.ports.unpublish(80, o),
  'previews.list': ({ box }, o) => box.previews.list(o),
  'previews.create': ({ box }, o) => box.previews.create({ port: 80, ...o }),
  'previews.remove': ({ box }, o) => box.previews.remove('prv_none', o),
  'box.setLifetime': ({ box }, o) => box.setLifetime(60, o),
  'secrets.list': ({ box }, o) => box.secrets.list(o),
  'secrets.set': ({ box }, o) => box.secrets.set('KEY', { value: 'v', hosts: ['a.test'], ...o }),
  'secrets.remove': ({ box }, o) => box.secrets.remove('KEY', o),
  'box.consoleLog': ({ box }, o) => box.consoleLog(o),
  'snapshot.create': ({ box }, o) => box.snapshot.create('cancelled', o),
  'snapshot.create, memory': ({ box }, o) => box.snapshot.create('cancelled', { memory: true, ...o }),
  'snapshot.list': ({ box }, o) => box.snapshot.list(o),
  'snapshot.get': ({ box }, o) => box.snapshot.get('cancelled', o),
  'snapshot.restore': ({ box }, o) => box.snapshot.restore('cancelled', o),
  'snapshot.restore, live': ({ box }, o) => box.snapshot.restore('cancelled', { live: true, ...o }),
  'snapshot.remove': ({ box }, o) => box.snapshot.remove('cancelled', o),
  'files.write': ({ box }, o) => box.files.write('/tmp/cancelled', 'x', o),
  'files.read': ({ box }, o) => box.files.read('/etc/passwd', o),
  'files.readStream': ({ box }, o) => box.files.readStream('/etc/passwd', o),
  'files.list': ({ box }, o) => box.files.list('/etc', o),
  'files.stat': ({ box }, o) => box.files.stat('/etc/passwd', o),
  'files.makeDirectory': ({ box }, o) => box.files.makeDirectory('/tmp/cancelled', o),
  'files.remove': ({ box }, o) => box.files.remove('/etc/passwd', o),
  'files.rename': ({ box }, o) => box.files.rename('/etc/passwd', '/tmp/cancelled', o),
  'files.watch': ({ box }, o) => box.files.watch('/tmp', o),
  'files.copyIn': ({ box }, o) => box.files.copyIn('package.json', '/tmp/cancelled', o),
  'files.copyOut': ({ box }, o) => box.files.copyOut('/etc/passwd', nowhere, o),
  'files.pack': ({ box }, o) => box.files.pack('/etc', o),
  'executions.list': ({ box }, o) => box.executions.list(o),
  'executions.get': ({ box }, o) => box.executions.get('exc_0', o),
  'executions.attach': ({ box }, o) => box.executions.attach('exc_0', o),
  'executions.kill': ({ box }, o) => box.executions.kill('exc_0', o),
};

/** What of a box is changed under its lock, so that others wait for it. */
const exclusive: Record<string, Call> = Object.fromEntries(
  [
    'box.start',
    'box.stop',
    'box.remove',
    'box.pause',
    'box.resume',
    'box.diff',
    'box.clone',
    'box.fork',
    'box.exportStream',
    'snapshot.create',
    'snapshot.create, memory',
    'snapshot.restore',
    'snapshot.remove',
    'templates.create',
  ].map((name) => [name, operations[name] as Call]),
);

/** Who holds the box's lock meanwhile: a pause that waits for a file operation that does not end. */
async function whileLocked(box: Box, task: () => Promise<void>): Promise<void> {
  let end: () => void = () => undefined;
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const ending = new Promise<void>((resolve) => {
    end = resolve;
  });
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('a');
    begin();
    await ending;
    yield Buffer.from('b');
  }
  const written = box.files.write('/tmp/slow', slow());
  await begun;
  const paused = box.pause();
  try {
    await expect.poll(async () => (await box.info()).operation).toBe('pausing');
    await task();
  } finally {
    end();
    await written;
    await paused;
    await box.resume();
  }
}

conformance('cancellation', (subject: Subject) => {
  const { reason } = AbortSignal.abort(new Error('given up'));

  it.each(Object.entries(operations))('refuses %s when its signal was raised before', async (_name, call) => {
    const before = (await subject.runtime.list()).length;
    const error: unknown = await call(subject, { signal: AbortSignal.abort(reason) }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error, 'it was done').toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'cancelled' });
    expect((await subject.runtime.list()).length).toBe(before);
    expect(await subject.box.info()).toMatchObject({ status: 'running', operation: null });
  });

  it('left nothing of what was refused', async () => {
    const { runtime, box } = subject;
    expect(await runtime.get('cancelled')).toBeNull();
    expect(await runtime.volumes.get('cancelled')).toBeNull();
    expect(await runtime.templates.get('c')).toBeNull();
    expect(await box.snapshot.list()).toEqual([]);
    expect(await box.files.stat('/tmp/cancelled')).toBeNull();
    expect(await runtime.images.get('tiny')).not.toBeNull();
  });

  it('gives up what waits for its turn at once', { timeout: 120_000 }, async () => {
    const { runtime, box } = subject;
    await whileLocked(box, async () => {
      for (const [name, call] of Object.entries(exclusive)) {
        const controller = new AbortController();
        const called = call({ runtime, box }, { signal: controller.signal });
        called.catch(() => undefined);
        setImmediate(() => controller.abort(reason));
        await expect(called, name).rejects.toMatchObject({ code: 'cancelled' });
      }
    });
    expect((await box.info()).status).toBe('running');
    expect(await box.snapshot.list()).toEqual([]);
    expect(await runtime.get('cancelled')).toBeNull();
  });

  it('leaves a box that was aborted under way in its old state or the new one', {
    timeout: 240_000,
  }, async () => {
    const { box } = subject;
    await box.stop();
    const steps = [
      { call: (o: CallOptions) => box.start(o), old: 'stopped', next: 'running' },
      { call: (o: CallOptions) => box.pause(o), old: 'running', next: 'paused' },
      {
        call: async (o: CallOptions) => {
          await box.resume(o);
        },
        old: 'paused',
        next: 'running',
      },
    ];
    for (const afterMs of [1, 20, 60, 150, 400]) {
      for (const { call, old, next } of steps) {
        const outcome = await call({ signal: AbortSignal.timeout(afterMs) }).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (outcome !== undefined) expect(outcome).toMatchObject({ code: 'cancelled' });
        const settled = await box.info();
        expect(settled.failure).toBeNull();
        expect([old, next]).toContain(settled.status);
        await expect.poll(async () => (await box.info()).operation, { timeout: 30_000 }).toBeNull();
        if ((await box.info()).status === old) await call({});
        expect((await box.info()).status).toBe(next);
      }
      expect((await box.exec(['true'])).exitCode).toBe(0);
      await box.stop();
    }
    await box.start();
  });
});
