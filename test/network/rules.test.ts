import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { NetworkOptions } from '../../src/api/index.js';
import { needsGateway, normalNetwork, policyOf } from '../../src/network/index.js';
import {
  networkFromJson,
  networkInfoFromJson,
  networkInfoToJson,
  networkToJson,
} from '../../src/wire/network.js';

describe('rules', () => {
  it('are kept in one form, each once', () => {
    const { allowNet, denyNet } = normalNetwork({
      allowNet: [
        'API.Example.com.',
        'api.example.com',
        '*.Bücher.example:443',
        '192.0.2.0/24:8000-8010',
        '*',
        'a_b.test',
      ],
      denyNet: ['0.0.0.0/0', '10.1.2.3:53'],
    });
    expect(allowNet).toEqual([
      'api.example.com',
      '*.xn--bcher-kva.example:443',
      '192.0.2.0/24:8000-8010',
      '*',
      'a_b.test',
    ]);
    expect(denyNet).toEqual(['0.0.0.0/0', '10.1.2.3:53']);
    expect(needsGateway(normalNetwork())).toBe(false);
    expect(normalNetwork({ allowNet })).toEqual(normalNetwork(normalNetwork({ allowNet })));
  });

  it.each([
    [
      '',
      '*.',
      '**',
      'a.*.b',
      'a..b',
      '.a',
      'a b',
      'http://a.test',
      'a.test/x',
      'user@a.test',
      '-'.repeat(64),
    ],
    [
      'a.test:',
      'a.test:0',
      'a.test:65536',
      'a.test:9-1',
      'a.test:1-',
      'a.test:1:2',
      'a.test:x',
      'a.test:080',
    ],
    ['1.2.3.4/33', '1.2.3.4/8', '1.2.3', '01.2.3.4', '256.1.1.1', '1.2.3.4/', '127.1', '2130706433'],
    [`${'a.'.repeat(130)}test`, 'a.test\n', 'a\u3002test/', null as unknown as string],
  ])('that are none are refused by their place', (...wrong) => {
    for (const rule of wrong) {
      const refused = (): unknown => normalNetwork({ allowNet: ['a.test', rule] });
      expect(refused, String(rule)).toThrow(/^network\.allowNet\[1\] is .*, expected a host name/);
    }
  });

  it('of IPv6, of names that are denied, and too many are refused', () => {
    for (const rule of ['::1', '[::1]:80', 'fd00::/8']) {
      expect(() => normalNetwork({ allowNet: [rule] })).toThrow('boxes have no IPv6');
    }
    expect(() => normalNetwork({ denyNet: ['a.test'] })).toThrow('a name cannot be denied');
    const many = Array.from({ length: 257 }, (_, i) => `h${i}.test`);
    expect(() => normalNetwork({ allowNet: many })).toThrow('at most 256');
  });
});

describe('network.json', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cryobox-network-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  const policy = async (settings: string | undefined, options: NetworkOptions): Promise<unknown> => {
    const path = join(directory, 'network.json');
    await rm(path, { force: true });
    if (settings !== undefined) await writeFile(path, settings);
    return await policyOf(path, normalNetwork(options));
  };

  it('says who reaches private ranges and which name servers are asked', async () => {
    expect(await policy(undefined, { denyNet: ['192.0.2.1'] })).toEqual({
      mode: 'enabled',
      allow: [],
      intercept: [],
      deny: ['192.0.2.1'],
      otherwise: 'allow',
      private: 'listed',
      resolvers: [],
    });
    const settings = '{"private":"deny","resolvers":["192.0.2.53","192.0.2.54:5353"]}';
    expect(await policy(settings, { outbound: 'disabled', allowNet: ['a.test'] })).toMatchObject({
      mode: 'disabled',
      otherwise: 'refuse',
      private: 'deny',
      resolvers: ['192.0.2.53:53', '192.0.2.54:5353'],
    });
    expect(await policy(undefined, { allowNet: ['*'] })).toMatchObject({ otherwise: 'allow' });
  });

  it.each([
    '{',
    '[]',
    '{"privat":"allow"}',
    '{"private":"yes"}',
    '{"resolvers":["a.test"]}',
    '{"resolvers":["1.1.1.1:0"]}',
  ])('that reads %s is refused with its path', async (text) => {
    await expect(policy(text, {})).rejects.toMatchObject({
      code: 'config_error',
      message: expect.stringContaining('network.json'),
    });
  });
});

it('a network travels over the wire', () => {
  const network = { outbound: 'disabled', allowNet: ['a.test'], denyNet: ['192.0.2.1'] } as const;
  const denial = {
    seq: 3,
    at: new Date(5),
    reason: 'sni',
    protocol: 'tcp',
    name: null,
    address: '192.0.2.1',
    port: 443,
  };
  const traffic = {
    bytesSent: 1,
    bytesReceived: 2,
    connectionsOpened: 3,
    connectionsOpen: 4,
    connectionsFailed: 5,
    refused: { sni: 6 },
    denials: [{ ...denial, count: 6 }],
  };
  for (const info of [
    { ...network, inbound: 'public' as const, traffic },
    { ...network, inbound: 'private' as const, traffic: null },
  ]) {
    expect(networkInfoFromJson(JSON.parse(JSON.stringify(networkInfoToJson(info))))).toEqual(info);
  }
  expect(networkFromJson(networkToJson(network))).toEqual(network);
  expect(networkFromJson({})).toBeUndefined();
});
