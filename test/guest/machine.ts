import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildInitramfs } from '../../src/guest/initramfs.js';
import { kernelDirectory } from '../support/mini-guest.js';
import { agentPath } from './host-agent.js';

const qemu = 'qemu-system-x86_64';
const mke2fs = 'mke2fs';

/** A bare machine for tests: kernel, initramfs with the agent, the box's disk as /dev/vdb. */
export interface TestMachine {
  readonly socketPath: string;
  readonly process: ChildProcess;
  console(): string;
  /** Gives a command to QEMU's human monitor and waits for it to be done. */
  monitor(command: string): Promise<string>;
  /** Resolves when QEMU has ended by itself or was killed. */
  readonly exited: Promise<unknown>;
  kill(): Promise<void>;
}

/** What a machine is made of. */
export interface MachineOptions {
  readonly disk: string;
  /** Distinguishes machines in one directory. */
  readonly name?: string;
  /** Go on from this state instead of booting. */
  readonly incoming?: string;
}

/** A disk with an ext4 busybox root, which may be smaller than the disk. */
export function makeBusyboxDisk(directory: string, sizeMiB: number, diskMiB = sizeMiB): string {
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
  truncateSync(disk, diskMiB << 20);
  return disk;
}

/** Starts a machine: it boots and waits for a root, or it has a state and waits for `cont`. */
export async function bootMachine(directory: string, options: MachineOptions): Promise<TestMachine> {
  const { disk, name = 'machine', incoming } = options;
  const initramfs = await buildInitramfs({
    kernelDirectory: await kernelDirectory(),
    agentPath,
  });
  const initramfsPath = join(directory, `${name}.initramfs`);
  writeFileSync(initramfsPath, initramfs.content);
  const socketPath = join(directory, `${name}.sock`);
  const consolePath = join(directory, `${name}.console`);
  const blank = join(directory, 'guest.raw');
  writeFileSync(blank, Buffer.alloc(1 << 20));
  const begin =
    incoming === undefined
      ? [
          '-kernel',
          initramfs.kernel.imagePath,
          '-initrd',
          initramfsPath,
          '-append',
          'console=ttyS0 panic=-1 quiet',
        ]
      : ['-S', '-incoming', `exec:cat ${incoming}`];
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
      ...['-serial', `file:${consolePath}`, '-monitor', 'stdio'],
      ...begin,
      ...['-device', 'virtio-serial-pci'],
      ...['-chardev', `socket,path=${socketPath},server=on,wait=off,id=agent`],
      ...['-device', 'virtserialport,chardev=agent,name=cryobox.agent'],
      // The place of the guest system disk, which the agent does without.
      ...['-drive', `file=${blank},format=raw,if=none,id=guest,file.locking=off`],
      ...['-device', 'virtio-blk-pci,drive=guest'],
      ...['-drive', `file=${disk},format=raw,if=none,id=disk`, '-device', 'virtio-blk-pci,drive=disk'],
      ...['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
      ...['-device', 'virtio-rng-pci'],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const gone = once(child, 'exit');
  return {
    socketPath,
    process: child,
    console: () => readFileSync(consolePath, 'latin1'),
    monitor: (command) => monitor(child, command),
    exited: gone,
    kill: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await gone;
    },
  };
}

/** The prompt after a command's own echo says that it is done. */
function monitor(child: ChildProcess, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = '';
    const onExit = () => reject(new Error(`QEMU ended: ${output}`));
    const onData = (bytes: Buffer) => {
      output += bytes.toString('latin1');
      const prompts = output.split('(qemu) ').length - 1;
      // The marker is no command: its complaint is the last thing before the last prompt.
      if (!/unknown command: 'marker'/.test(output) || prompts < 1 || !output.endsWith('(qemu) ')) return;
      child.stdout?.off('data', onData);
      child.off('exit', onExit);
      resolve(output);
    };
    child.stdout?.on('data', onData);
    child.once('exit', onExit);
    child.stdin?.write(`${command}\nmarker\n`);
  });
}
