import { statfs } from 'node:fs/promises';

/** What a file system is good for as the place of a home. */
interface FileSystemRule {
  readonly name: string;
  /** `refused`: it keeps no files of users; `warned`: a home works there, and `why` it is better elsewhere. */
  readonly verdict: 'refused' | 'warned';
  readonly why: string;
}

const kernelOnly = (name: string): FileSystemRule => ({
  name,
  verdict: 'refused',
  why: 'it shows the kernel, and keeps no files',
});
const inMemory = (name: string): FileSystemRule => ({
  name,
  verdict: 'warned',
  why: 'it lies in memory: a restart of the host loses every box, and machines die when it is full',
});
const overNetwork = (name: string): FileSystemRule => ({
  name,
  verdict: 'warned',
  why: 'it lies on another host: everything is slower, and only one host at a time may use the home',
});

/** By the number statfs(2) gives (linux/magic.h). Those that are not here are taken for disks. */
const rules: Readonly<Record<number, FileSystemRule>> = {
  40864: kernelOnly('proc'),
  1650812274: kernelOnly('sysfs'),
  2613483: kernelOnly('cgroup'),
  1667723888: kernelOnly('cgroup2'),
  1684170528: kernelOnly('debugfs'),
  1953653091: kernelOnly('tracefs'),
  1935894131: kernelOnly('securityfs'),
  1650812272: kernelOnly('configfs'),
  7377: kernelOnly('devpts'),
  3405662737: kernelOnly('bpf'),
  1634035564: kernelOnly('pstore'),
  3730735588: kernelOnly('efivarfs'),
  427819522: kernelOnly('mqueue'),
  4185718668: kernelOnly('selinuxfs'),
  1112100429: kernelOnly('binfmt_misc'),
  1853056627: kernelOnly('nsfs'),
  2508478710: kernelOnly('hugetlbfs'),
  16914836: inMemory('tmpfs'),
  2240043254: inMemory('ramfs'),
  26985: overNetwork('NFS'),
  20859: overNetwork('SMB'),
  4283649346: overNetwork('CIFS'),
  4266872130: overNetwork('SMB2'),
  1397113167: overNetwork('AFS'),
  12805120: overNetwork('Ceph'),
};

/** What speaks against a home at a path that exists; undefined for an ordinary disk. */
export async function fileSystemRule(path: string): Promise<FileSystemRule | undefined> {
  return rules[(await statfs(path)).type >>> 0];
}
