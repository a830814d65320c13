// What differs between processors, for set-up: a row for each, named as Node names them. src/machine/architectures.ts
// has what their machines are.

/**
 * Packages of Debian: QEMU with its command, and the package whose dependency is the newest kernel for virtual machines.
 * `cross`: what a C compiler for it on another processor is called, which links its programs there.
 */
const rows = {
  x64: {
    debian: 'amd64',
    qemu: { package: 'qemu-system-x86', command: 'qemu-system-x86_64' },
    kernelPackage: 'linux-image-cloud-amd64',
    kernelFolder: 'kernel',
    rustTarget: 'x86_64-unknown-linux-gnu',
    cross: { package: 'gcc-x86-64-linux-gnu', command: 'x86_64-linux-gnu-gcc' },
  },
  arm64: {
    debian: 'arm64',
    qemu: { package: 'qemu-system-arm', command: 'qemu-system-aarch64' },
    kernelPackage: 'linux-image-cloud-arm64',
    kernelFolder: 'kernel-arm64',
    rustTarget: 'aarch64-unknown-linux-gnu',
    cross: { package: 'gcc-aarch64-linux-gnu', command: 'aarch64-linux-gnu-gcc' },
  },
};

/** Names of all processors that there is a row for. */
export const architectureNames = Object.keys(rows);

/** The row of a processor, by default this host's; undefined when there is none. */
export function architectureRow(name = process.arch) {
  return Object.hasOwn(rows, name) ? rows[name] : undefined;
}

/** Where the programs of a processor are built to: see `guestProgramPath` in src/engine/machines/assets.ts. */
export function guestFolder(name) {
  return name === 'x64' ? 'dist/guest' : `dist/guest/${name}`;
}
