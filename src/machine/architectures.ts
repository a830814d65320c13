import { CryoboxError } from '../errors.js';

/** How QEMU runs guest code. */
export type Accelerator = 'kvm' | 'tcg';

/** Processors that machines may have, named as Node names them (`process.arch`). */
export type ArchitectureName = 'x64' | 'arm64';

/** All that differs between machines of different processors. */
export interface Architecture {
  readonly name: ArchitectureName;
  /** The architecture in the platform of an image (OCI image spec, "Image Index"); Debian calls it the same. */
  readonly platform: string;
  /** Name of the program, looked for on the PATH. */
  readonly qemuBinary: string;
  readonly machineType: string;
  /** What the versioned names of the machine type start with, such as `pc-q35-7.2`. */
  readonly machineTypePrefix: string;
  /** Options of `-machine` beside the memory backend. */
  readonly machineOptions: readonly string[];
  readonly cpuModel: Readonly<Record<Accelerator, string>>;
  /** Whether QEMU has a device that tells the guest of having been cloned (`vmgenid`). */
  readonly hasGenerationDevice: boolean;
  /** Name of the first serial port in the guest. */
  readonly console: string;
  /** Kernel command line, per accelerator. */
  readonly kernelOptions: Readonly<Record<Accelerator, readonly string[]>>;
}

/** Options for every kernel, and those of an architecture. A word that a kernel does not know becomes an argument of init. */
const kernelOptions = (own: readonly string[]): readonly string[] => [
  'quiet',
  // A kernel that panics must end its machine, not hang it.
  'panic=-1',
  ...own,
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

/** The boot happens once; probing for what the machine does not have costs most of it. */
const x64KernelOptions = kernelOptions(['no_timer_check', 'i8042.noaux', 'i8042.nomux', 'i8042.nopnp']);
const arm64KernelOptions = kernelOptions([]);

/** A box of before boxes had an architecture: there were machines for this one only. */
export const firstArchitecture: ArchitectureName = 'x64';

/** One row per architecture: adding one is adding a row here and in scripts/lib/architectures.mjs. */
const architectures: Readonly<Record<ArchitectureName, Architecture>> = {
  x64: {
    name: 'x64',
    platform: 'amd64',
    qemuBinary: 'qemu-system-x86_64',
    machineType: 'q35',
    machineTypePrefix: 'pc-q35-',
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
    hasGenerationDevice: true,
    console: 'ttyS0',
    kernelOptions: {
      kvm: x64KernelOptions,
      // Under emulation there is no speculation to protect from, and the counters are as good as they get.
      tcg: [...x64KernelOptions, 'mitigations=off', 'tsc=reliable'],
    },
  },
  arm64: {
    name: 'arm64',
    platform: 'arm64',
    qemuBinary: 'qemu-system-aarch64',
    machineType: 'virt',
    machineTypePrefix: 'virt-',
    // The kernel finds its devices in the device tree: without ACPI there is no firmware to run before it.
    machineOptions: ['acpi=off', 'gic-version=3', 'usb=off', 'graphics=off', 'suppress-vmdesc=on'],
    // Signed pointers by QEMU's own algorithm: the architected one takes a third of the boot under emulation. Vectors of
    // variable length would make each thread's state larger.
    cpuModel: { kvm: 'host', tcg: 'max,pauth-impdef=on,sve=off' },
    hasGenerationDevice: false,
    console: 'ttyAMA0',
    kernelOptions: {
      kvm: arm64KernelOptions,
      tcg: [...arm64KernelOptions, 'mitigations=off', 'kpti=off'],
    },
  },
};

/** The row of an architecture. */
export function architectureOf(name: ArchitectureName): Architecture {
  return architectures[name];
}

/** The row of this host. Throws `config_error` on an architecture without one. */
export function hostArchitecture(): Architecture {
  const row = Object.values(architectures).find(({ name }) => name === process.arch);
  if (row) return row;
  const known = Object.keys(architectures).join(', ');
  throw new CryoboxError('config_error', `no machine is defined for ${process.arch}; there are: ${known}`);
}

/** The row for images of a platform's architecture, such as `amd64`. Throws `unsupported` where there is none. */
export function architectureOfPlatform(architecture: string): Architecture {
  const row = Object.values(architectures).find(({ platform }) => platform === architecture);
  if (row) return row;
  const known = Object.values(architectures).map(({ platform }) => `linux/${platform}`);
  throw new CryoboxError('unsupported', `there is no machine for images of ${architecture}`, {
    hint: `Choose an image of one of these platforms: ${known.join(', ')}.`,
    details: { architecture, platforms: known },
  });
}

/** The row whose machine has that versioned type, such as `virt-7.2`; undefined for one of no row. */
export function architectureOfMachineType(machineType: string): Architecture | undefined {
  return Object.values(architectures).find(({ machineTypePrefix }) =>
    machineType.startsWith(machineTypePrefix),
  );
}
