import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildInitramfs } from '../../src/guest/initramfs.js';
import { agentPath } from './host-agent.js';

const qemu = 'qemu-system-x86_64';
const mke2fs = 'mke2fs';

/** A bare machine for tests: kernel, initramfs with the agent, the box's disk as /dev/vdb. */
export interface TestMachine {
  readonly socketPath: string;
  readonly process: ChildProcess;
  console(): string;
  kill(): Promise<void>;
}

/** An ext4 disk with a busybox root. */
export function makeBusyboxDisk(directory: string, sizeMiB: number): string {
  const tree = join(directory, 'tree');
  for (const name of ['bin', 'etc', 'root', 'home/ann']) mkdirSync(join(tree, name), { recursive: true });
  copyFileSync('/usr/bin/busybox', join(tree, 'bin/busybox'));
  const commands = ['sh', 'cat', 'echo', 'sleep', 'id', 'ls', 'mount', 'head', 'sha256sum', 'true', 'date'];
  commands.push(
    'hostname',
    'ifconfig',
    'route',
    'nc',
    'wget',
    'ps',
    'kill',
    'setsid',
    'touch',
    'stat',
    'dd',
    'df',
  );
  for (const name of commands) spawnSync('ln', ['-sf', 'busybox', join(tree, 'bin', name)]);
  writeFileSync(
    join(tree, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n',
  );
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\nann:x:1000:\naudio:x:29:ann\n');
  const disk = join(directory, 'disk.ext4');
  const made = spawnSync(mke2fs, [
    '-q',
    '-t',
    'ext4',
    '-E',
    'root_owner=0:0',
    '-d',
    tree,
    disk,
    `${sizeMiB}m`,
  ]);
  if (made.status !== 0) throw new Error(`mke2fs: ${made.stderr}`);
  return disk;
}

/** Boots kernel and agent; the machine waits for a root. */
export async function bootMachine(
  directory: string,
  kernelDirectory: string,
  disk: string,
): Promise<TestMachine> {
  const initramfs = await buildInitramfs({
    kernelDirectory,
    agentPath,
    outputPath: join(directory, 'initramfs'),
  });
  const socketPath = join(directory, 'agent.sock');
  const consolePath = join(directory, 'console');
  const blank = join(directory, 'guest.raw');
  writeFileSync(blank, Buffer.alloc(1 << 20));
  const child = spawn(
    qemu,
    [
      ...[
        '-M',
        'q35',
        '-accel',
        'tcg,thread=multi',
        '-m',
        '256',
        '-nodefaults',
        '-display',
        'none',
        '-no-reboot',
      ],
      ...['-serial', `file:${consolePath}`, '-kernel', initramfs.kernel.imagePath, '-initrd', initramfs.path],
      ...['-append', 'console=ttyS0 panic=-1 quiet'],
      ...['-device', 'virtio-serial-pci'],
      ...['-chardev', `socket,path=${socketPath},server=on,wait=off,id=agent`],
      ...['-device', 'virtserialport,chardev=agent,name=cryobox.agent'],
      // The place of the guest system disk, which the agent does without.
      ...['-drive', `file=${blank},format=raw,if=none,id=guest`, '-device', 'virtio-blk-pci,drive=guest'],
      ...['-drive', `file=${disk},format=raw,if=none,id=disk`, '-device', 'virtio-blk-pci,drive=disk'],
      ...['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
      ...['-device', 'virtio-rng-pci'],
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const gone = once(child, 'exit');
  return {
    socketPath,
    process: child,
    console: () => readFileSync(consolePath, 'latin1'),
    kill: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await gone;
    },
  };
}
