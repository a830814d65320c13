import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ExportOptions, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';

const secret = 'hunter2-of-the-box';
let directory: string;
let home: TestHome;
let engine: Engine;
let runtime: Runtime;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-secrets-'));
  home = await newHome();
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  runtime = engine.runtime();
});

afterAll(async () => {
  for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  await engine.close();
  await home[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** The members of an archive's tar whose bytes hold the secret. */
async function manifestOf(path: string): Promise<string> {
  const unpacked = await mkdtemp(join(directory, 'out-'));
  await promisify(execFile)('tar', ['--zstd', '-xf', path, '-C', unpacked]);
  return await readFile(join(unpacked, 'manifest.json'), 'utf8');
}

it('an archive holds the environment a box was given only when it is asked for', async () => {
  const env = { SECRET_TOKEN: secret, PATH: `/opt/bin:/usr/bin:/bin` };
  const box = await runtime.create({ image: 'tiny', detach: true, env });
  const info = await box.info();
  const given = (options: ExportOptions, name: string) => box.export(join(directory, name), options);
  const plain = await manifestOf(await given({}, 'plain'));
  expect(plain).not.toContain(secret);
  expect(plain).not.toContain('/opt/bin');
  expect(plain).toContain('SECRET_TOKEN');
  expect(await manifestOf(await given({ includeMetadata: false, env: true }, 'bare'))).not.toContain(secret);
  expect(await manifestOf(await given({ memory: true }, 'memory'))).not.toContain(secret);
  expect(await manifestOf(await given({ env: true }, 'whole'))).toContain(secret);

  const without = await runtime.import(join(directory, 'plain'));
  const rest = (await without.info()).env;
  expect(rest['SECRET_TOKEN']).toBeUndefined();
  for (const name of Object.keys(rest)) expect(rest[name]).toBe(info.env[name]);
  // What is known to be a secret stays known: an imported box that is given none gives none away either.
  const whole = await runtime.import(join(directory, 'whole'));
  expect((await whole.info()).env).toEqual(info.env);
  const again = await manifestOf(await whole.export(join(directory, 'again')));
  expect(again).not.toContain(secret);
  const clone = await box.clone();
  expect((await clone.info()).env).toEqual(info.env);
  expect(await manifestOf(await clone.export(join(directory, 'clone')))).not.toContain(secret);
});
