import { open } from 'node:fs/promises';
import { afterEach, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';

let undo: (() => void) | undefined;

afterEach(() => undo?.());

/** The host may give fewer bytes than it is asked for at any time (read(2)): here it gives half of them. */
async function readLess(): Promise<void> {
  const handle = await open('/dev/null');
  const handles = Object.getPrototypeOf(handle) as { read: (...args: unknown[]) => unknown };
  await handle.close();
  const { read } = handles;
  handles.read = function (this: unknown, ...args: unknown[]): unknown {
    const [target, offset, length, position] = args;
    if (typeof length !== 'number') return read.apply(this, args);
    return read.call(this, target, offset, Math.ceil(length / 2), position);
  };
  undo = () => {
    handles.read = read;
  };
}

it('takes no memory and no disk for damaged where the host reads less than it is asked for', {
  timeout: 240_000,
}, async () => {
  await using home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  await box.files.write('/root/mark', 'still here');
  await box.snapshot.create('s', { memory: true });
  await readLess();
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
  await box.snapshot.restore('s', { live: true });
  expect((await box.files.read('/root/mark')).toString()).toBe('still here');
  await box.pause();
  await box.resume();
  await box.remove({ force: true });
});
