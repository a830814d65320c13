import { randomBytes } from 'node:crypto';
import type { NetworkConfiguration } from '../../guest/index.js';
import type { BoxRow } from '../../store/index.js';
import type { BoxConfig } from '../record/config.js';
import { configOf } from '../record/rows.js';

/** Longest host name (sethostname(2)). */
const maxHostname = 64;

/** QEMU's user-mode network as machines are started with it (QEMU: "Using the user mode network stack"). */
export const guestNetwork: NetworkConfiguration = {
  address: '10.0.2.15',
  prefix: 24,
  gateway: '10.0.2.2',
  dns: ['10.0.2.3'],
};

/**
 * The host name of a box: what it was given, else its name, else its id, in the letters a host name may have. Its
 * configuration is read from the row unless it is there already.
 */
export function hostnameOf(
  row: Pick<BoxRow, 'id' | 'name' | 'config'>,
  { hostname }: Pick<BoxConfig, 'hostname'> = configOf(row),
): string {
  if (hostname !== undefined) return hostname;
  const name = (row.name ?? row.id).replace(/[^a-zA-Z0-9-]/g, '-').slice(0, maxHostname);
  return name.replace(/-+$/, '') || 'box';
}

/** Content of /etc/hosts. */
export function hostsFile(hostname: string): string {
  return `127.0.0.1\tlocalhost\n127.0.1.1\t${hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n`;
}

/** A new hardware address: locally administered, not multicast (IEEE 802, section 8.2). */
export function newMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return bytes.toString('hex').replace(/(..)(?=.)/g, '$1:');
}
