import { expect, it, onTestFinished } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';
import { failureOf } from './support.js';

/** Imports of one tenant that may be under way. */
const most = 8;

it('lets a tenant have some imports under way, and no tenant those of another', async () => {
  const ends: (() => void)[] = [];
  async function* silent(): AsyncGenerator<Uint8Array> {
    await new Promise<void>((resolve) => ends.push(resolve));
    yield Buffer.from('no archive');
  }
  const home = await newHome();
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  onTestFinished(async () => {
    await engine.close();
    await home[Symbol.asyncDispose]();
  });
  const one = engine.runtime('one');
  const other = engine.runtime('other');
  const under = Array.from({ length: most }, () => failureOf(one.import(silent())));
  await expect.poll(() => ends.length).toBe(most);
  await expect(one.import(silent())).rejects.toMatchObject({
    code: 'resource_exhausted',
    details: { limit: most },
    hint: expect.stringContaining('Wait'),
  });
  const theirs = failureOf(other.import(silent()));
  await expect.poll(() => ends.length).toBe(most + 1);
  for (const end of ends) end();
  for (const failure of await Promise.all([...under, theirs])) expect(failure.code).toBe('archive_invalid');
  const after = failureOf(one.import(silent()));
  await expect.poll(() => ends.length).toBe(most + 2);
  ends.at(-1)?.();
  expect((await after).code).toBe('archive_invalid');
});
