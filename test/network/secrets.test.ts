import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { Outside } from '../engine/outside.js';
import { failureOf, output } from '../engine/support.js';
import { newHome, type TestHome } from '../support/home.js';
import { filesWith, interceptorPid } from './kept.js';

const value = 'sk-live-4f1c9a70d2b35e86-never-in-a-box';
const script = join(import.meta.dirname, 'echo.mjs');
const key = { API_KEY: { value, hosts: ['api.test'] } };

let home: TestHome;
let outside: Outside;
let engine: Engine;

beforeAll(async () => {
  home = await newHome();
  outside = await Outside.start({ script, names: ['api.test', 'other.test', '*.sub.test'] });
  await outside.useIn(home.path);
  engine = await Engine.open({ home: home.path, poolSize: 0 });
});

afterAll(async () => {
  for (const { id } of (await engine?.runtime().list()) ?? [])
    await engine.runtime().remove(id, { force: true });
  await engine?.close();
  await outside?.[Symbol.asyncDispose]();
  await home?.[Symbol.asyncDispose]();
});

const make = (options: Parameters<ReturnType<Engine['runtime']>['create']>[0] = {}): Promise<Box> =>
  engine.runtime().create({ image: 'debian-python', secrets: key, ...options });

const request = `
import json, os, ssl, sys, urllib.request
url, headers = sys.argv[1], json.loads(os.path.expandvars(sys.argv[2]))
try:
    with urllib.request.urlopen(urllib.request.Request(os.path.expandvars(url), headers=headers), timeout=60) as answer:
        print(answer.status, answer.headers.get('alt-svc'), answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode().strip())
except Exception as error:
    print(type(error).__name__, getattr(error, 'reason', error))
`;

/** What a program in a box gets for a request; variables in its URL and headers are those of the box. */
async function ask(box: Box, url: string, headers: Record<string, string> = {}): Promise<string> {
  const command = ['python3', '-c', request, url, JSON.stringify(headers)];
  const { stdout, stderr } = await box.exec(command, { timeoutMs: 90_000 });
  return stdout.toString().trim() || stderr.toString();
}

describe('a secret', () => {
  it('is used by who has its placeholder only, and is nowhere in the home', async () => {
    await using box = await make();
    const said = await ask(box, 'https://api.test/v1?key=$API_KEY', { authorization: 'Bearer $API_KEY' });
    expect(said).toContain('200 None');
    expect(said).toContain(`"authorization":"Bearer ${value}"`);
    expect(said).toContain(`"url":"/v1?key=${value}"`);
    const told = await box.secrets.list();
    const placeholder = told[0]?.placeholder ?? '';
    expect(told).toEqual([{ name: 'API_KEY', placeholder, hosts: ['api.test'], hasValue: true }]);
    expect(await output(box, 'env')).toContain(`API_KEY=${placeholder}`);
    expect(JSON.stringify(await box.info())).not.toContain(value);
    // A program that was told the value by the server is no part of this.
    await box.stop();
    await box.start();
    expect(await ask(box, 'https://api.test/', { 'x-key': '$API_KEY', 'x-quiet': '1' })).toBe('200 None ok');
    await box.pause();
    expect(await filesWith(home.path, value)).toEqual([]);
    expect((await filesWith(home.path, placeholder)).length).toBeGreaterThan(0);
    await box.resume();
    expect(await ask(box, 'https://api.test/', { 'x-key': '$API_KEY' })).toContain(`"x-key":"${value}"`);
  }, 180_000);

  it('goes to its hosts only, in requests that are for them', async () => {
    await using box = await make({
      secrets: { ...key, OTHER: { value: 'other-value', hosts: ['*.sub.test'] } },
    });
    outside.take();
    const wrongHost = await ask(box, 'https://x.sub.test/', { 'x-key': '$API_KEY' });
    expect(wrongHost).toBe('403 cryobox: the secret API_KEY is not for this server');
    const front = await ask(box, 'https://api.test/', { 'x-key': '$API_KEY', host: 'x.sub.test' });
    expect(front).toBe('421 cryobox: this connection is for api.test only');
    // Not a host of any secret: its connection is not looked into, and its certificate is its own.
    expect(await ask(box, 'https://other.test/', { 'x-key': '$API_KEY' })).toContain(
      'CERTIFICATE_VERIFY_FAILED',
    );
    expect(outside.take().filter((what) => 'method' in what)).toEqual([]);
    const { traffic } = await box.network.info();
    expect(traffic?.denials).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ reason: 'secret_host', name: 'x.sub.test', port: 443 }),
        expect.objectContaining({ reason: 'host', name: 'api.test' }),
      ]),
    );
    const basic =
      'import base64,os;print("Basic "+base64.b64encode(("u:"+os.environ["OTHER"]).encode()).decode())';
    const credentials = await output(box, `python3 -c '${basic}'`);
    const expected = Buffer.from('u:other-value').toString('base64');
    expect(await ask(box, 'https://x.sub.test/', { authorization: credentials })).toContain(
      `Basic ${expected}`,
    );
    await using stranger = await make({ secrets: { MINE: { value: 'mine-value', hosts: ['api.test'] } } });
    const theirs = (await box.secrets.list())[0]?.placeholder ?? '';
    const said = await ask(stranger, 'https://api.test/', { 'x-key': theirs, 'x-own': '$MINE' });
    expect(said).toContain(`"x-key":"${theirs}"`);
    expect(said).toContain('"x-own":"mine-value"');
  }, 180_000);

  it('changes while the box runs, and holds in forks and clones but not in templates', async () => {
    await using box = await make();
    await box.secrets.set('API_KEY', { value: 'rotated-value' });
    expect(await ask(box, 'https://api.test/', { 'x-key': '$API_KEY' })).toContain('"x-key":"rotated-value"');
    const fork = (await box.fork({ count: 1 }))[0];
    if (!fork || 'error' in fork) throw new Error('there is no fork');
    expect(await ask(fork.box, 'https://api.test/', { 'x-key': '$API_KEY' })).toContain(
      '"x-key":"rotated-value"',
    );
    await fork.box.remove({ force: true });
    const clone = await box.clone('cloned');
    await clone.start();
    expect(await ask(clone, 'https://api.test/', { 'x-key': '$API_KEY' })).toContain(
      '"x-key":"rotated-value"',
    );
    await clone.secrets.remove('API_KEY');
    expect(await clone.secrets.list()).toEqual([]);
    await clone.remove({ force: true });
    expect(await failureOf(box.secrets.set('API_KEY', { value: 'a\nb' }))).toMatchObject({
      code: 'invalid_argument',
    });
    expect(await failureOf(box.secrets.remove('NONE'))).toMatchObject({ code: 'not_found' });
    expect(await filesWith(join(home.path, 'cryobox.db'), 'rotated-value')).toEqual([]);
  }, 180_000);

  it('is held back while what puts it in is gone, and comes back with it and with the engine', async () => {
    const box = await make();
    const pid = await interceptorPid(home.path);
    process.kill(pid, 'SIGKILL');
    await expect
      .poll(() => ask(box, 'https://api.test/', { 'x-key': '$API_KEY' }), { timeout: 60_000 })
      .toContain(value);
    await engine.close();
    outside.take();
    engine = await Engine.open({ home: home.path, poolSize: 0 });
    const again = await engine.runtime().get(box.id);
    if (!again) throw new Error('the box is gone');
    expect(await ask(again, 'https://api.test/', { 'x-key': '$API_KEY' })).toContain(value);
    await again.remove({ force: true });
  }, 180_000);
});
