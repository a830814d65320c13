import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as boxlite from '@boxlite-ai/boxlite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { Outside } from '../engine/outside.js';
import { filesWith } from '../network/kept.js';
import { run } from './client-stage.js';
import { conformance } from './support.js';

const program = `
import os, ssl, sys, urllib.request
request = urllib.request.Request("https://api.test/", headers={"x-key": os.environ[sys.argv[1]], "x-quiet": "1"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
`;

let outside: Outside;
beforeAll(async () => {
  const script = join(import.meta.dirname, '../network/echo.mjs');
  outside = await Outside.start({ script, names: ['api.test'] });
});
afterAll(() => outside[Symbol.asyncDispose]());

/** What the servers got as the key in requests since this was asked last. */
const keys = (): unknown[] =>
  outside.take().flatMap((what) => {
    const { method, headers } = what as { method?: string; headers?: Record<string, string> };
    return method ? [headers?.['x-key']] : [];
  });

async function use(box: Box): Promise<unknown[]> {
  const { stdout, stderr } = await box.exec(['python3', '-c', program, 'API_KEY'], { timeoutMs: 90_000 });
  expect(`${stdout}${stderr}`.trim()).toBe('ok');
  return keys();
}

conformance('secrets', (subject) => {
  it('are used by boxes, forks and clones, and are in nothing that is kept or told', async () => {
    const { runtime, stage } = subject;
    await outside.useIn(stage.home.path);
    // A value of its own for every way: the home is searched for it.
    const value = `sk-live-${crypto.randomUUID()}`;
    const rotated = `sk-next-${crypto.randomUUID()}`;
    const secrets = { API_KEY: { value, hosts: ['api.test'] } };
    const box = await runtime.create({ image: 'debian-python', secrets });
    const made = [box];
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-secrets-'));
    try {
      expect(await use(box)).toEqual([value]);
      await box.secrets.set('API_KEY', { value: rotated });
      expect(await use(box)).toEqual([rotated]);
      await box.snapshot.create('one', { memory: true });
      for (const child of await box.fork({ count: 2 })) {
        if (!('box' in child)) throw new Error('there is no fork');
        made.push(child.box);
        expect(await use(child.box)).toEqual([rotated]);
      }
      const clone = await box.clone();
      made.push(clone);
      await clone.start();
      expect(await use(clone)).toEqual([rotated]);
      const template = await runtime.templates.create({ box: box.id, name: `kept-${box.id.slice(4)}` });
      const from = await runtime.create({ template: template.name });
      made.push(from);
      expect(await from.secrets.list()).toEqual([]);
      await box.snapshot.restore('one', { live: true });
      expect(await use(box)).toEqual([rotated]);
      await box.pause();
      const archives = [
        await box.export(join(directory, 'memory.boxsnap'), { memory: true, env: true }),
        await clone.export(join(directory, 'disks.boxsnap'), { env: true }),
      ];
      for (const archive of archives) {
        const unpacked = await mkdtemp(join(directory, 'out-'));
        await promisify(execFile)('tar', ['--zstd', '-xf', archive, '-C', unpacked]);
      }
      const imported = await runtime.import(archives[1] ?? '');
      made.push(imported);
      expect(await imported.secrets.list()).toEqual([]);
      const told = JSON.stringify([
        ...(await Promise.all(made.map((each) => each.info()))),
        ...(await Promise.all(made.map((each) => each.secrets.list()))),
        ...(await Promise.all(made.map((each) => each.network.info()))),
        await runtime.templates.list(),
      ]);
      for (const each of [value, rotated]) {
        expect(told).not.toContain(each);
        expect(await filesWith(stage.home.path, each)).toEqual([]);
        expect(await filesWith(directory, each)).toEqual([]);
      }
      const placeholder = (await box.secrets.list())[0]?.placeholder ?? '';
      // The search finds what is there.
      expect((await filesWith(stage.home.path, placeholder)).length).toBeGreaterThan(0);
      expect((await readdir(directory)).length).toBe(4);
    } finally {
      for (const each of made) await each.remove({ force: true });
      await rm(directory, { recursive: true, force: true });
    }
  }, 300_000);
});

conformance("secrets of BoxLite's client", ['TCP'], (subject) => {
  it('are put in as those of our own', async () => {
    const { stage } = subject;
    await outside.useIn(stage.home.path);
    const { ApiKeyCredential, BoxliteRestOptions, JsBoxlite } = boxlite;
    const credential = new ApiKeyCredential('owner');
    const client = JsBoxlite.rest(new BoxliteRestOptions({ url: stage.keyedUrl, credential }));
    const value = `sk-live-${crypto.randomUUID()}`;
    const secrets = [{ name: 'key', value, hosts: ['api.test'] }];
    const network = { outbound: { mode: 'enabled' as const, allowNet: ['other.test'] } };
    const box = await client.create({ image: 'debian-python', secrets, network }, 'keyed');
    keys();
    const { stdout, stderr } = await run(box, 'python3', ['-c', program, 'BOXLITE_SECRET_KEY']);
    expect(stdout + stderr).toBe('ok\n');
    expect(keys()).toEqual([value]);
    const env = await run(box, 'env', []);
    expect(env.stdout).toContain('BOXLITE_SECRET_KEY=<BOXLITE_SECRET:key>\n');
    expect(env.stdout).not.toContain(value);
    expect(JSON.stringify(await box.info())).not.toContain(value);
    expect(await filesWith(stage.home.path, value)).toEqual([]);
    await client.remove('keyed', true);
  }, 180_000);
});
