import { networkInterfaces } from 'node:os';

/** An address of this host that is neither loopback nor link-local. */
export function outsideAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const found = all.find(
    ({ family, internal, address }) => family === 'IPv4' && !internal && !address.startsWith('169.254.'),
  );
  if (!found) throw new Error('this host has no address but its loopback');
  return found.address;
}
