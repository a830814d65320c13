/** Addresses that are not the public internet's (IANA special-purpose registries, RFC 6890). */
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';

const special4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];
/** What is routed on the internet at all; everything else is the host's, its network's, or nobody's. */
const global6 = '2000::/3';
/** Within it: protocol assignments with Teredo, documentation, and 6to4, which carries an IPv4 address. */
const special6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];
/** Translated by the network to the IPv4 address in the last four bytes (RFC 6052). */
const nat64 = '64:ff9b::/96';
/** Wider networks of an interface say nothing about where this host is. */
const widestOwn = { IPv4: 8, IPv6: 32 } as const;

function listOf(subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [address = '', prefix] = subnet.split('/');
    list.addSubnet(address, Number(prefix), isIPv4(address) ? 'ipv4' : 'ipv6');
  }
  return list;
}

const notPublic = listOf([...special4, ...special6]);
const routed6 = listOf([global6]);
const translated = listOf([nat64]);

/** This host's own addresses and the networks it is in, as they are now. */
function ownNetworks(): BlockList {
  const list = new BlockList();
  for (const { address, family, cidr } of Object.values(networkInterfaces()).flatMap((each) => each ?? [])) {
    const kind = family === 'IPv4' ? 'ipv4' : 'ipv6';
    list.addAddress(address, kind);
    const prefix = Number(cidr?.split('/')[1]);
    if (prefix >= widestOwn[family]) list.addSubnet(address, prefix, kind);
  }
  return list;
}

/** The four last bytes of an IPv6 address as an IPv4 address. */
function lastFourBytes(address: string): string {
  // The URL parser writes the address with hexadecimal groups only, whatever way it was written.
  const groups = new URL(`http://[${address}]`).hostname.slice(1, -1).split(':');
  const value = (group: string | undefined): number => Number.parseInt(group || '0', 16);
  const [high, low] = [value(groups.at(-2)), value(groups.at(-1))];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

/**
 * Whether an IP address is on the public internet: neither of this host, nor of a network it is in, nor private,
 * link-local, shared, multicast, reserved, or such an address translated to IPv6. What is no address is not public.
 */
export function isPublicAddress(text: string): boolean {
  // A zone is only for link-local addresses, which are not public.
  if (isIPv4(text)) return !notPublic.check(text, 'ipv4') && !ownNetworks().check(text, 'ipv4');
  if (!isIPv6(text) || text.includes('%')) return false;
  if (translated.check(text, 'ipv6')) return isPublicAddress(lastFourBytes(text));
  if (!routed6.check(text, 'ipv6') || notPublic.check(text, 'ipv6')) return false;
  return !ownNetworks().check(text, 'ipv6');
}
