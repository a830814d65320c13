import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box, NetworkOptions } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { Outside } from './outside.js';
import { failureOf, output } from './support.js';

let home: TestHome;
let outside: Outside;
let engine: Engine;

beforeAll(async () => {
  home = await newHome();
  outside = await Outside.start();
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

const make = (network: NetworkOptions, image = 'tiny'): Promise<Box> =>
  engine.runtime().create({ image, network });

/** What a box gets of an address, or the end of what it says when it gets nothing. */
async function fetchFrom(box: Box, url: string): Promise<string> {
  const { stdout, stderr } = await box.exec(['wget', '-q', '-O', '-', url], {
    timeoutMs: 30_000,
  });
  return stdout.toString() || stderr.toString().trim().split(': ').at(-1) || '';
}

/** Reasons of what was refused in a box, by name or address. */
async function refusedIn(box: Box): Promise<Record<string, string>> {
  const { traffic } = await box.network.info();
  return Object.fromEntries(
    (traffic?.denials ?? []).map(({ reason, name, address }) => [name ?? address, reason]),
  );
}

/** The gateway of a box: the process of that name that runs in the directory of the box's machine. */
async function gatewayPid(box: Box): Promise<number> {
  const directoryOf = (pid: string | number | null) => readlink(`/proc/${pid}/cwd`).catch(() => '');
  const directory = await directoryOf((await box.info()).pid);
  for (const entry of await readdir('/proc')) {
    const name = await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '');
    if (name === 'gateway\n' && (await directoryOf(entry)) === directory) return Number(entry);
  }
  throw new Error(`no gateway in ${directory}`);
}

describe('allowNet', () => {
  it('holds against root in the box, and says what was refused', async () => {
    await using box = await make({ allowNet: ['a.test', 'inside.test'] }, 'debian-python');
    outside.take();
    await box.files.write('/try.py', await readFile(join(import.meta.dirname, 'network-attempts.py')));
    const script = `python3 /try.py ${outside.address} ${outside.otherAddress} ${outside.hostAddress}`;
    const results = JSON.parse(await output(box, script)) as Record<string, string>;
    const reset = 'ConnectionResetError';
    const refused = 'ConnectionRefusedError';
    expect(results).toEqual({
      http: 'http a.test',
      https: 'https a.test',
      raw: 'hello',
      'closed port': refused,
      resolve: 'gaierror',
      sni: reset,
      'sni elsewhere': reset,
      'no sni': reset,
      host: reset,
      'host elsewhere': reset,
      'second host': reset,
      absolute: reset,
      connect: reset,
      h2c: reset,
      'blank lines': reset,
      'bare lines': reset,
      smuggled: reset,
      other: refused,
      'other tls': refused,
      'this host': refused,
      gateway: refused,
      metadata: refused,
      loopback: refused,
      inside: 'gaierror',
      udp: expect.stringMatching(/Error/),
      'own resolver': expect.stringMatching(/Error/),
      afterwards: 'http a.test',
    });
    const arrived = outside.take();
    const names = arrived.filter(({ kind }) => kind === 'dns').map(({ name }) => name);
    expect(new Set(names)).toEqual(new Set(['a.test', 'inside.test']));
    const rest = arrived.filter(({ kind }) => kind !== 'dns');
    expect(rest.filter(({ kind, host }) => kind !== 'raw' && host !== 'a.test')).toEqual([]);
    expect(rest.filter(({ kind }) => kind === 'raw')).toHaveLength(1);
    const { traffic } = await box.network.info();
    expect(Object.keys(traffic?.refused ?? {}).toSorted()).toEqual(
      expect.arrayContaining(
        [
          'address',
          'floor',
          'fragment',
          'host',
          'http',
          'name',
          'no_sni',
          'options',
          'protocol',
          'rebinding',
        ].concat(['sni', 'source', 'udp']),
      ),
    );
    expect(traffic?.denials.find(({ reason }) => reason === 'sni')).toMatchObject({
      protocol: 'tcp',
      name: 'b.test',
      address: outside.address,
      port: 443,
    });
  });

  it('changes while the box runs, and cuts what is no longer allowed', async () => {
    await using box = await make({ allowNet: ['a.test'] });
    const open = await box.startExec(['sh', '-c', 'nc a.test 2222; echo cut'], { stdin: true });
    const lines = open.stdout[Symbol.asyncIterator]();
    expect(String((await lines.next()).value)).toContain('hello');
    const changed = await box.network.update({ allowNet: ['*.sub.test:80'] });
    expect(changed).toMatchObject({ outbound: 'enabled', allowNet: ['*.sub.test:80'], denyNet: [] });
    expect(String((await lines.next()).value)).toContain('cut');
    expect(await fetchFrom(box, 'http://x.sub.test/')).toBe('http x.sub.test');
    expect(await fetchFrom(box, 'http://x.sub.test:8080/')).toBe('Connection refused');
    expect(await fetchFrom(box, 'http://a.test/')).toContain("bad address 'a.test'");
    // Both names have one address.
    expect(await fetchFrom(box, `http://${outside.address}/`)).toContain('reset');
    expect(await refusedIn(box)).toMatchObject({ 'a.test': 'name', [outside.address]: 'host' });
    await box.network.update({ outbound: 'disabled', allowNet: ['a.test'] });
    expect(await fetchFrom(box, 'http://a.test/')).not.toContain('http a.test');
    expect((await box.info()).network).toEqual({ outbound: 'disabled', allowNet: ['a.test'], denyNet: [] });
  });

  it('holds after a pause, in a fork, after a rollback and with another engine', async () => {
    // The engine that it is of is closed below.
    const box = await make({ allowNet: ['a.test'] });
    const check = async (each: Box): Promise<void> => {
      expect(await fetchFrom(each, 'http://a.test/')).toBe('http a.test');
      expect(await fetchFrom(each, 'http://other.test/')).toContain('bad address');
      expect(await fetchFrom(each, `http://${outside.otherAddress}/`)).toBe('Connection refused');
    };
    await check(box);
    await box.snapshot.create('before', { memory: true });
    await box.pause();
    await box.network.update({ allowNet: ['a.test', 'b.test'] });
    await box.resume({ pager: 'mmap' });
    await check(box);
    expect(await fetchFrom(box, 'http://b.test/')).toBe('http b.test');
    const [child] = await box.fork({ count: 1 });
    if (!child || !('box' in child)) throw new Error('no child');
    await check(child.box);
    await child.box.remove({ force: true });
    await box.snapshot.restore('before', { live: true });
    await check(box);
    await engine.close();
    engine = await Engine.open({ home: home.path, poolSize: 0 });
    const again = await engine.runtime().get(box.id);
    if (!again) throw new Error('the box is gone');
    await check(again);
    expect((await again.network.info()).traffic?.bytesReceived).toBeGreaterThan(0);
    await again.network.update({ allowNet: ['b.test'] });
    expect(await fetchFrom(again, 'http://b.test/')).toBe('http b.test');
    await again.remove({ force: true });
  });

  it('has its gateway replaced when that ends', async () => {
    await using box = await make({ allowNet: ['a.test'] });
    expect(await fetchFrom(box, 'http://a.test/')).toBe('http a.test');
    const pid = await gatewayPid(box);
    process.kill(pid, 'SIGKILL');
    // Until the next one is there nothing is answered; wget tries until it is.
    await expect.poll(() => fetchFrom(box, 'http://a.test/'), { timeout: 40_000 }).toBe('http a.test');
    expect(await gatewayPid(box)).not.toBe(pid);
    expect(await fetchFrom(box, `http://${outside.otherAddress}/`)).toBe('Connection refused');
    expect(await box.exec(['true'])).toMatchObject({ exitCode: 0 });
  });

  it('refuses what it cannot do, by name', async () => {
    for (const [network, message] of [
      [{ allowNet: ['a.test', 'http://x.y'] }, 'network.allowNet[1] is "http://x.y", expected a host name'],
      [{ allowNet: ['*.'] }, 'network.allowNet[0]'],
      [{ allowNet: ['a.test:0'] }, 'network.allowNet[0]'],
      [{ allowNet: ['10.1.1.1/8'] }, 'network.allowNet[0]'],
      [{ allowNet: ['010.1.1.1'] }, 'network.allowNet[0]'],
      [{ denyNet: ['a.test'] }, 'a name cannot be denied'],
    ] as const) {
      expect(await failureOf(make(network))).toMatchObject({
        code: 'invalid_argument',
        message: expect.stringContaining(message),
      });
    }
    expect(await failureOf(make({ allowNet: ['[::1]:80'] }))).toMatchObject({ code: 'unsupported' });
    await using plain = await make({});
    expect(await failureOf(plain.network.update({ allowNet: ['a.test'] }))).toMatchObject({
      code: 'invalid_state',
      hint: expect.stringContaining('Stop the box'),
    });
    await plain.pause();
    await plain.network.update({ allowNet: ['A.test.'] });
    await plain.resume();
    expect(await fetchFrom(plain, 'http://a.test/')).toBe('http a.test');
    expect(await fetchFrom(plain, 'http://b.test/')).toContain('bad address');
  });
});

describe('denyNet', () => {
  it('keeps ranges away, and lets the rest go', async () => {
    await using box = await make({ denyNet: [`${outside.otherAddress}/32`] });
    expect(await fetchFrom(box, 'http://b.test/')).toBe('http b.test');
    expect(await fetchFrom(box, `http://${outside.address}/`)).toBe(`http ${outside.address}`);
    expect(await fetchFrom(box, 'http://other.test/')).toBe('Connection refused');
    // A datagram to an address.
    expect(await output(box, `nslookup b.test ${outside.address}`)).toContain(`${outside.address}:53`);
    expect(await refusedIn(box)).toEqual({ 'other.test': 'address' });
  });
});
