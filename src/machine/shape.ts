import { CryoboxError } from '../errors.js';

/** How QEMU runs guest code. */
export type Accelerator = 'kvm' | 'tcg';

/** What of a machine cannot change once it has booted. */
export interface MachineShape {
  readonly cpus: number;
  readonly memoryMiB: number;
}

interface Architecture {
  /** Debian's architecture name, also that of OCI platforms here. */
  readonly platform: string;
  readonly qemuBinary: string;
  readonly machineType: string;
  /** Options of `-machine` beside the memory backend. */
  readonly machineOptions: readonly string[];
  readonly cpuModel: Readonly<Record<Accelerator, string>>;
  readonly kernelPackageFlavour: string;
  readonly console: string;
  /** Kernel command line, per accelerator. */
  readonly kernelOptions: Readonly<Record<Accelerator, readonly string[]>>;
}

const commonKernelOptions = [
  'quiet',
  // A kernel that panics must end its machine, not hang it.
  'panic=-1',
  // The boot happens once; probing for what the machine does not have costs most of it.
  'no_timer_check',
  'i8042.noaux',
  'i8042.nomux',
  'i8042.nopnp',
  'random.trust_cpu=on',
  'cryptomgr.notests',
  'rcupdate.rcu_expedited=1',
  // A page that is zeroed is one of the box's own; what the kernel hands to programs is zeroed anyway.
  'init_on_alloc=0',
  // No policy is ever loaded for the security modules of the distribution, and no rule for its audit.
  'lsm=landlock,yama',
  'audit=0',
  // Tables that every lookup writes somewhere: what is spread wide costs each box a page of its own per write.
  'dhash_entries=8192',
  'ihash_entries=4096',
];

/** One row per architecture: adding one is adding a row. */
const architectures: Readonly<Record<string, Architecture>> = {
  x64: {
    platform: 'amd64',
    qemuBinary: 'qemu-system-x86_64',
    machineType: 'q35',
    machineOptions: [
      'vmport=off',
      'smbus=off',
      'sata=off',
      'hpet=off',
      'usb=off',
      'graphics=off',
      'suppress-vmdesc=on',
    ],
    cpuModel: { kvm: 'host', tcg: 'max' },
    kernelPackageFlavour: 'cloud-amd64',
    console: 'ttyS0',
    kernelOptions: {
      kvm: commonKernelOptions,
      // Under emulation there is no speculation to protect from, and the counters are as good as they get.
      tcg: [...commonKernelOptions, 'mitigations=off', 'tsc=reliable'],
    },
  },
};

/** The row of this host. Throws `config_error` on an architecture without one. */
export function hostArchitecture(): Architecture {
  const row = architectures[process.arch];
  if (row) return row;
  const known = Object.keys(architectures).join(', ');
  throw new CryoboxError('config_error', `no machine is defined for ${process.arch}; there are: ${known}`);
}

/** Size of the slots that disks stand in: any smaller disk fits, since a guest sees this size from its golden machine. */
export const diskSlotBytes = 1024 ** 4;

/** Where volumes go; a box has at most as many. Named so that the guest's kernel calls the first `vdc`. */
export const volumeSlots = ['volume0', 'volume1', 'volume2', 'volume3'] as const;

/**
 * Raised with every change of the devices of a machine: a memory fits only a machine with the same ones. 1: root ports
 * kept free in the place of the slots for volumes.
 */
export const deviceListVersion = 2;
