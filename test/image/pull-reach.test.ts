import { networkInterfaces } from 'node:os';
import { describe, expect, test } from 'vitest';
import { isPublicAddress } from '../../src/registry/addresses.js';
import { checkRegistryNames, ownerReach, ReachRule } from '../../src/registry/reach.js';

describe('an address', () => {
  test.each([
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '127.0.0.1',
    '127.255.255.254',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.168.1.1',
    '198.18.0.1',
    '224.0.0.1',
    '239.255.255.250',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:a00:1',
    '::ffff:8.8.8.8',
    '64:ff9b::7f00:1',
    '64:ff9b::10.0.0.1',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::808:808',
    '2002:7f00:1::',
    '2001:0:1::1',
    'fc00::1',
    'fd12:3456::1',
    'fe80::1',
    'fe80::1%eth0',
    'fec0::1',
    'ff02::1',
    'localhost',
    '',
  ])('%s is not public', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  test.each([
    '1.1.1.1',
    '8.8.8.8',
    '100.63.255.255',
    '100.128.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '223.255.255.255',
    '2606:4700::1111',
    '2a00:1450:4001::1',
    '64:ff9b::8.8.8.8',
    '64:ff9b::808:808',
  ])('%s is public', (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });

  test('of this host is not public', () => {
    const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
    expect(own.length).toBeGreaterThan(0);
    expect(own.filter(({ address }) => isPublicAddress(address))).toEqual([]);
  });
});

describe('the reach of a pull', () => {
  const anyone = { isOwner: false, allowed: ['reg.lan', 'reg.lan:5000', '127.0.0.1:5000', '[::1]:5000'] };
  const rule = new ReachRule('reg.lan', anyone);

  test.each([
    ['https://reg.lan/v2/', true],
    ['http://reg.lan/v2/', true],
    ['https://REG.lan:5000/v2/', true],
    ['http://127.0.0.1:5000/', true],
    ['http://2130706433:5000/', true],
    ['http://[0:0::1]:5000/', true],
    ['https://reg.lan:5001/', false],
    ['https://reg.lan.evil.example/', false],
    ['http://127.0.0.1/', false],
    ['http://127.0.0.1:8100/', false],
    ['http://[::1]/', false],
  ])('of a caller that was allowed some registries: %s %s', (url, isFree) => {
    expect(rule.isFree(new URL(url))).toBe(isFree);
  });

  test.each([
    'http://localhost/',
    'http://localhost./',
    'http://registry.localhost:5001/',
    'http://0x7f.1/',
    'http://0177.0.0.1/',
    'http://0/',
    'http://[::ffff:127.0.0.1]:5001/',
    'http://[64:ff9b::7f00:1]/',
    'http://169.254.169.254/latest/',
  ])('refuses %s before anything is sent', (url) => {
    expect(() => rule.checkLiteral(new URL(url))).toThrow(
      expect.objectContaining({
        code: 'permission_denied',
        hint: expect.stringContaining('--allow-registry'),
      }),
    );
  });

  test('of the owner goes to a registry anywhere, and from a public one to public hosts only', () => {
    const inner = new URL('http://127.0.0.1:8100/token');
    const own = new URL('https://reg.example/v2/');
    const open = new ReachRule('reg.example', ownerReach);
    expect([open.isFree(own), open.isFree(inner)]).toEqual([true, false]);
    open.found(own, '8.8.8.8');
    expect(open.isFree(inner)).toBe(false);
    // A name that is given a private address later is still that of a public registry.
    open.found(own, '127.0.0.1');
    expect(open.isFree(inner)).toBe(false);
    expect(() => open.checkLiteral(inner)).toThrow(/not on the public internet/);
    const inside = new ReachRule('reg.example', ownerReach);
    inside.found(own, '10.0.0.1');
    expect(inside.isFree(inner)).toBe(true);
    const named = new ReachRule('reg.example', { isOwner: true, allowed: ['127.0.0.1:8100'] });
    expect(named.isFree(inner)).toBe(true);
  });

  test('is given by names of registries only', () => {
    expect(checkRegistryNames(['reg.lan', 'reg.lan:5000', '[::1]:5000'])).toHaveLength(3);
    for (const name of ['', 'http://reg', 'a/b', '*', '*.lan', 'a b', 'a@b', 'reg:99999']) {
      expect(() => checkRegistryNames([name])).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
    }
  });
});
