import { type Accelerator, architectureOf } from './architectures.js';
import { diskSlotBytes, type MachineShape, volumeSlots } from './shape.js';

/** Names of the files in a machine's private directory; QEMU gets only names relative to it. */
export const machineFiles = {
  ram: 'ram',
  qmpSocket: 'qmp.sock',
  agentSocket: 'agent.sock',
  consoleSocket: 'console.sock',
  incomingSocket: 'incoming.sock',
  outgoingSocket: 'outgoing.sock',
  stderr: 'qemu.log',
  deviceState: 'device.state',
  pagerLog: 'pager.log',
  guard: 'guard.so',
  gateway: 'gateway',
  gatewayLog: 'gateway.log',
  gatewaySocket: 'gateway.sock',
  cardSocket: 'net.sock',
} as const;

/** The disks of every box; the name is that of the block node that the guest's device reads. */
export type DiskSlot = 'guest' | 'disk';

/** Where a volume goes: named as the disks are, and empty in a box without volumes. */
export type VolumeSlot = (typeof volumeSlots)[number];

/** Where a machine's memory comes from. */
export type RamSource =
  /** The file `ram` is the memory: for a golden machine. */
  | 'shared-file'
  /** The file `ram` is mapped copy-on-write. */
  | 'private-file'
  /** No file: for memory that a page server supplies. */
  | 'anonymous';

/**
 * Where a machine's network card leads: `open`: to QEMU's user-mode network; `closed`: there too, and nowhere from there;
 * `gateway`: to a socket that a gateway connects to (src/network).
 */
export type Card = 'open' | 'closed' | 'gateway';

/** What a machine is started as. */
export interface MachineSpec {
  readonly shape: MachineShape;
  readonly accelerator: Accelerator;
  readonly ram: RamSource;
  readonly card: Card;
  /** Boots this kernel; absent: waits for an incoming state. */
  readonly boot?: { readonly kernelPath: string; readonly initramfsPath: string };
}

/** File descriptor of the first control session, inherited from the engine: the channel of its start. */
const controlFd = 3;

/** MAC address of every golden machine; the agent sets a box's own after a restore. */
export const goldenMac = '52:54:00:cb:00:01';

/**
 * The command line of QEMU. The device list and its order are what a saved device state fits: changing them makes
 * every golden machine and memory layer useless, so the golden machine's key covers it.
 */
export function qemuArguments(spec: MachineSpec): string[] {
  return [
    ...base(spec),
    ...memory(spec),
    ...control(),
    ...diskDevices(),
    ...otherDevices(spec),
    ...(spec.boot ? kernel(spec, spec.boot) : ['-incoming', 'defer']),
  ];
}

function base({ shape, accelerator }: MachineSpec): string[] {
  const row = architectureOf(shape.architecture);
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-name', 'cryobox', '-msg', 'timestamp=on'],
    ...['-machine', [row.machineType, 'memory-backend=mem', ...row.machineOptions].join(',')],
    ...['-accel', accelerator === 'tcg' ? 'tcg,thread=multi,tb-size=128' : 'kvm'],
    ...['-cpu', row.cpuModel[accelerator], '-smp', String(shape.cpus), '-m', `${shape.memoryMiB}M`],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    // A guest that reboots would boot without its golden memory: the machine ends instead.
    ...['-action', 'reboot=shutdown,shutdown=poweroff,panic=shutdown', '-rtc', 'base=utc'],
  ];
}

function memory({ ram, shape }: MachineSpec): string[] {
  const size = `id=mem,size=${shape.memoryMiB}M`;
  if (ram === 'anonymous') return ['-object', `memory-backend-ram,${size}`];
  const share = ram === 'shared-file' ? 'on' : 'off';
  return ['-object', `memory-backend-file,${size},mem-path=${machineFiles.ram},share=${share}`];
}

function control(): string[] {
  return [
    // The engine that starts the machine talks over an inherited socket; a later engine over the path.
    ...['-chardev', `socket,id=control,fd=${controlFd}`, '-mon', 'chardev=control,mode=control'],
    ...['-chardev', `socket,id=qmp,path=${machineFiles.qmpSocket},server=on,wait=off`],
    ...['-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', `socket,id=console,path=${machineFiles.consoleSocket},server=on,wait=off`],
    ...['-serial', 'chardev:console'],
  ];
}

function diskDevices(): string[] {
  return (['guest', 'disk'] satisfies DiskSlot[]).flatMap((slot) => slotDevice(slot));
}

/** Name of the node that an empty slot reads: zeroes. */
export function emptyNode(slot: DiskSlot | VolumeSlot): string {
  return `${slot}-empty`;
}

function slotDevice(slot: DiskSlot | VolumeSlot, more = ''): string[] {
  return [
    // The device reads a raw node whose child is exchanged before the state is loaded.
    ...['-blockdev', `driver=null-co,node-name=${emptyNode(slot)},size=${diskSlotBytes},read-zeroes=on`],
    ...['-blockdev', `driver=raw,node-name=${slot},file=${emptyNode(slot)}`],
    ...['-device', `virtio-blk-pci,id=${slot}-device,drive=${slot},serial=${slot}${more}`],
  ];
}

function otherDevices({ card, shape }: MachineSpec): string[] {
  const { hasGenerationDevice } = architectureOf(shape.architecture);
  return [
    ...['-chardev', `socket,id=agent,path=${machineFiles.agentSocket},server=on,wait=off`],
    ...[
      '-device',
      'virtio-serial-pci,id=serial',
      '-device',
      'virtserialport,chardev=agent,name=cryobox.agent',
    ],
    ...['-netdev', backend(card)],
    ...['-device', `virtio-net-pci,id=nic,netdev=network,mac=${goldenMac},romfile=`],
    ...['-object', 'rng-builtin,id=entropy', '-device', 'virtio-rng-pci,id=rng,rng=entropy'],
    ...(hasGenerationDevice ? ['-device', 'vmgenid,guid=auto,id=generation'] : []),
    // One queue, however many processors: most of these stay empty, and each queue takes memory of the guest.
    ...volumeSlots.flatMap((slot) => slotDevice(slot, ',num-queues=1')),
  ];
}

function backend(card: Card): string {
  if (card === 'gateway') {
    return `stream,id=network,server=on,addr.type=unix,addr.path=${machineFiles.cardSocket}`;
  }
  return `user,id=network,ipv6=off,net=10.0.2.0/24,restrict=${card === 'open' ? 'off' : 'on'}`;
}

function kernel(spec: MachineSpec, boot: NonNullable<MachineSpec['boot']>): string[] {
  const row = architectureOf(spec.shape.architecture);
  const append = [`console=${row.console}`, ...row.kernelOptions[spec.accelerator]].join(' ');
  return ['-kernel', boot.kernelPath, '-initrd', boot.initramfsPath, '-append', append];
}
