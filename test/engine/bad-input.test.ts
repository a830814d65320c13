import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CreateOptions } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { failureOf, TestEngine } from './support.js';

const engine = new TestEngine();

describe('options of a new box', () => {
  const image = 'tiny';
  const bad: [string, CreateOptions, string][] = [
    ['an empty name', { image, name: '' }, 'must not be empty'],
    ['a long name', { image, name: 'x'.repeat(129) }, 'at most 128'],
    ['a name with a slash', { image, name: 'a/b' }, 'must start with a letter or digit'],
    ['a name with a question mark', { image, name: 'a?b' }, 'must start with a letter or digit'],
    ['a name with a hash', { image, name: 'a#b' }, 'must start with a letter or digit'],
    ['a name with a control character', { image, name: 'a\nb' }, 'must start with a letter or digit'],
    ['no cpu', { image, cpus: 0 }, 'cpus must be a whole number from 1 to 32'],
    ['half a cpu', { image, cpus: 1.5 }, 'cpus must be a whole number from 1 to 32'],
    ['too many cpus', { image, cpus: 33 }, 'cpus must be a whole number from 1 to 32'],
    ['too little memory', { image, memoryMiB: 64 }, 'memoryMiB must be a whole number from 128'],
    ['too large a disk', { image, diskSizeGb: 5000 }, 'diskSizeGb must be a whole number from 1 to 1024'],
    ['a relative directory', { image, workingDir: 'work' }, 'must be an absolute path'],
    ['a variable with an equals sign', { image, env: { 'A=B': '1' } }, 'bad name'],
    ['neither image nor template', {}, 'image or template is missing'],
    ['image and template', { image, template: 't' }, 'not both'],
    ['removal before the stop', { image, autoStop: 60, autoDelete: 30 }, 'autoDelete must exceed autoStop'],
  ];
  it.each(bad)('%s is refused', async (_what, options, message) => {
    const failure = await failureOf(engine.runtime.create(options));
    expect(failure).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining(message) });
    expect(failure.hint).not.toBe('');
    expect(await engine.runtime.list()).toEqual([]);
  });

  it.each(['rules', 'publishAll'])('%s is refused by name', async (option) => {
    const failure = await failureOf(engine.runtime.create({ image, [option]: ['x'] } as CreateOptions));
    expect(failure).toMatchObject({ code: 'unsupported', message: `not supported: ${option}` });
    const network = { outbound: 'enabled', [option]: ['x'] } as CreateOptions['network'];
    const inside = await failureOf(engine.runtime.create({ image, network }));
    expect(inside.message).toBe(`not supported: network.${option}`);
  });
});

it('an exec on a removed box says that there is none', async () => {
  const box = await engine.runtime.create({ image: 'tiny' });
  await box.remove({ force: true });
  expect((await failureOf(box.exec(['true']))).code).toBe('not_found');
  expect((await failureOf(box.info())).code).toBe('not_found');
  expect((await failureOf(engine.runtime.remove(box.id))).code).toBe('not_found');
});

it('a running box is removed only by force', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  expect(await failureOf(box.remove())).toMatchObject({
    code: 'invalid_state',
    hint: expect.stringContaining('force'),
  });
  expect((await box.info()).status).toBe('running');
});

it.runIf(process.getuid?.() === 0)('a home of another user is refused, and left as it is', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'cryobox-home-'));
  const home = join(parent, 'home');
  await mkdir(home);
  await chown(home, 12_345, 12_345);
  const failure = await failureOf(Engine.open({ home }));
  expect(failure).toMatchObject({
    code: 'config_error',
    message: expect.stringContaining('belongs to user 12345'),
  });
  expect(failure.hint).toContain('CRYOBOX_HOME');
  await rm(parent, { recursive: true });
});
