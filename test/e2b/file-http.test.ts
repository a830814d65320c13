import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NpmClient } from '../support/npm-client.js';
import { E2bStage, keys } from './stage.js';

const installMs = 300_000;

interface Made {
  readonly sandboxID: string;
  readonly envdAccessToken: string;
}

describe('files of sandboxes over HTTP', () => {
  let stage: E2bStage;
  let made: Made;
  const content = Array.from({ length: 1000 }, (_, line) => `line ${line}\n`).join('');
  const url = (query: Record<string, string>): string => `${stage.url}/files?${new URLSearchParams(query)}`;
  const inside = (): Record<string, string> => ({
    'e2b-sandbox-id': made.sandboxID,
    'x-access-token': made.envdAccessToken,
  });
  /** With no header but these: `fetch` names codings unasked. */
  const get = async (path: string, headers: Record<string, string | undefined> = {}) => {
    const {
      statusCode,
      headers: told,
      body,
    } = await request(url({ path }), {
      headers: { ...inside(), ...headers },
    });
    return { status: statusCode, headers: told, body: Buffer.from(await body.arrayBuffer()) };
  };

  beforeAll(async () => {
    stage = await E2bStage.open();
    const answer = await fetch(`${stage.url}/v2/sandboxes`, {
      method: 'POST',
      headers: { 'x-api-key': keys.owner, 'content-type': 'application/json' },
      body: JSON.stringify({ templateID: 'base' }),
    });
    made = (await answer.json()) as Made;
    const headers = { ...inside(), 'content-type': 'application/octet-stream' };
    await fetch(url({ path: 'lines' }), { method: 'POST', headers, body: content });
  });
  afterAll(() => stage.close());

  it('come in parts', async () => {
    const whole = await get('lines');
    expect(whole).toMatchObject({ status: 200, headers: { 'accept-ranges': 'bytes' } });
    expect(whole.body.toString()).toBe(content);
    const modified = String(whole.headers['last-modified']);
    const size = content.length;
    for (const [range, start, end] of [
      ['bytes=0-9', 0, 9],
      ['bytes=100-', 100, size - 1],
      ['bytes=-5', size - 5, size - 1],
      [`bytes=10-${size * 2}`, 10, size - 1],
    ] as const) {
      for (const headers of [{ range }, { range, 'if-range': modified }]) {
        const part = await get('lines', headers);
        expect(part).toMatchObject({
          status: 206,
          headers: { 'content-range': `bytes ${start}-${end}/${size}` },
        });
        expect(part.body.toString()).toBe(content.slice(start, end + 1));
      }
    }
    const changed = 'Mon, 01 Jan 2001 00:00:00 GMT';
    for (const headers of [{ range: 'bytes=0-1', 'if-range': changed }, { range: 'lines=1' }]) {
      const { status, body } = await get('lines', headers);
      expect([status, body.length]).toEqual([200, size]);
    }
    expect(await get('lines', { range: `bytes=${size}-` })).toMatchObject({
      status: 416,
      headers: { 'content-range': `bytes */${size}` },
    });
    expect((await get('lines', { 'if-modified-since': modified })).status).toBe(304);
    expect((await get('lines', { 'if-modified-since': changed })).status).toBe(200);
    // A file of the kernel says it has no length.
    expect((await get('/proc/version', { range: 'bytes=0-4' })).body.toString()).toMatch(/^Linux version/);
    expect((await get('nothing', { range: 'bytes=0-4' })).status).toBe(404);
  });

  it('come packed for who asks for that', async () => {
    const packed = await get('lines', { 'accept-encoding': 'gzip' });
    expect(packed).toMatchObject({ status: 200, headers: { 'content-encoding': 'gzip' } });
    expect(packed.body.length).toBeLessThan(content.length / 2);
    expect(gunzipSync(packed.body).toString()).toBe(content);
    expect((await get('lines')).headers['content-encoding']).toBeUndefined();
  });

  it('are let out and in by signed URLs, and by no other', async () => {
    const until = Math.floor(Date.now() / 1000) + 600;
    const signed = (path: string, operation: string, { token = made.envdAccessToken, exp = until } = {}) => {
      const hash = createHash('sha256').update(`${path}:${operation}:user:${token}:${exp}`).digest('base64');
      const signature = `v1_${hash.replace(/=+$/, '')}`;
      return url({ path, username: 'user', signature, signature_expiration: String(exp) });
    };
    const read = async (address: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(address, { headers });
      return [answer.status, await answer.text()] as const;
    };
    expect(await read(signed('lines', 'read'))).toEqual([200, content]);
    const named = { 'e2b-sandbox-id': made.sandboxID };
    expect(await read(signed('lines', 'read'), named)).toEqual([200, content]);
    for (const headers of [{}, named]) {
      const refused = async (address: string): Promise<string> => {
        const [status, text] = await read(address, headers);
        expect([address, status]).toEqual([address, 401]);
        return text;
      };
      expect(await refused(signed('lines', 'write'))).toContain('invalid signature');
      expect(await refused(signed('lines', 'read', { token: '' }))).toContain('invalid signature');
      expect(await refused(signed('lines', 'read').replace('lines', 'other'))).toContain('invalid signature');
      expect(await refused(signed('lines', 'read').replace(String(until), String(until + 1)))).toContain(
        'invalid',
      );
      expect(await refused(signed('lines', 'read', { exp: until - 1200 }))).toContain('expired');
      expect(await refused(url({ path: 'lines' }))).toContain('missing signature query parameter');
    }
    const written = await fetch(signed('up', 'write'), {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: 'uploaded',
    });
    expect(await written.json()).toEqual([{ name: 'up', path: '/home/user/up', type: 'file' }]);
    expect((await get('up')).body.toString()).toBe('uploaded');
  });

  it('are let out and in by the URLs of the client for npm', { timeout: installMs }, async () => {
    const client = await NpmClient.install('e2b', '2.51.0', stage.env());
    const result = await client.run(
      `import { Sandbox } from 'e2b';`,
      `const sbx = await Sandbox.create({ timeoutMs: 120000 });
       try {
         const form = new FormData();
         form.append('file', new Blob(['from a form']), 'form.txt');
         const up = await fetch(await sbx.uploadUrl('form.txt', { useSignatureExpiration: 60 }), { method: 'POST', body: form });
         const url = await sbx.downloadUrl('form.txt');
         const down = await fetch(url);
         return { up: up.status, text: await down.text(), read: await sbx.files.read('form.txt'),
           packed: await sbx.files.read('form.txt', { gzip: true }),
           wrong: (await fetch(url.replace('form.txt', 'other.txt'))).status };
       } finally { await sbx.kill(); }`,
    );
    expect(result).toEqual({
      up: 200,
      text: 'from a form',
      read: 'from a form',
      packed: 'from a form',
      wrong: 401,
    });
  });
});
