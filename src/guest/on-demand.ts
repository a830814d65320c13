import { type KernelModule, openModules } from './kernel.js';

/**
 * Modules that people need in a box beside a machine's own drivers: containers, tunnels, VPNs, images of disks. Taken
 * where the kernel has them; with what they need they are about 9 MB, for which there is room on the guest disk. Large
 * file systems (xfs, btrfs, nfs, cifs) are left out, as no disk of a box needs them.
 */
const onDemandModules = [
  ...['overlay', 'fuse', 'squashfs', 'isofs', 'vfat', 'nls_ascii', 'nls_cp437', 'nls_utf8', 'nls_iso8859_1'],
  ...['loop', 'nbd', 'tun', 'tap', 'veth', 'bridge', 'br_netfilter', 'dummy', 'macvlan', 'ipvlan', 'vxlan'],
  ...['wireguard', 'xfrm_user', 'esp4', 'ipip', 'sit', 'sch_htb', 'sch_netem', 'ifb', 'binfmt_misc'],
];

/** Directories of which each module is taken: rules of nftables and iptables need any of them. */
const onDemandDirectories = ['', 'ipv4/', 'ipv6/', 'bridge/'].map((family) => `net/${family}netfilter`);

/** What decides which modules a guest disk holds beside the kernel: raised with each change of the lists here. */
export const onDemandVersion = 1;

/** Modules that a running guest loads when its kernel asks for them. */
export interface OnDemandModules {
  readonly modules: readonly KernelModule[];
  /** One line for each name the kernel may ask for: the name, and the modules to be loaded for it, in their order. */
  readonly index: string;
}

/** Finds them in a kernel's directory (see findKernel). @throws CryoboxError `config_error`. */
export async function findOnDemandModules(kernelDirectory: string): Promise<OnDemandModules> {
  const tree = await openModules(kernelDirectory);
  const named = onDemandModules.filter((name) => tree.has(name));
  const listed = onDemandDirectories.flatMap((directory) => tree.inDirectory(directory));
  const modules = await tree.order([...named, ...listed.sort()]);
  return { modules, index: indexOf(modules) };
}

/** Modules come each after what it needs, so that a pass from the front knows the whole order of each. */
function indexOf(modules: readonly KernelModule[]): string {
  const orders = new Map<string, readonly string[]>();
  const byName = new Map<string, Set<string>>();
  for (const { name, info } of modules) {
    const order = [...new Set([...info.depends.flatMap((needed) => orders.get(needed) ?? []), name])];
    orders.set(name, order);
    for (const alias of [name, ...info.aliases]) {
      const key = alias.replaceAll('-', '_');
      byName.set(key, new Set([...(byName.get(key) ?? []), ...order]));
    }
  }
  return [...byName].map(([alias, order]) => `${[alias, ...order].join(' ')}\n`).join('');
}
