// What has to be on the host, as data, and how Debian's package manager brings it.
import { readFileSync } from 'node:fs';
import { architectureRow } from './architectures.mjs';
import { run, SetupError, tryRun, which } from './run.mjs';

/** Debian packages the product needs, each with a command that shows it is there. */
export const productPackages = [
  // Where there is no row, setup says that the host is none that boxes run on.
  ...(architectureRow() ? [architectureRow().qemu] : []),
  { package: 'e2fsprogs', command: 'mke2fs' },
  { package: 'zstd', command: 'zstd' },
  // Newer kernels have their modules packed with it.
  { package: 'xz-utils', command: 'xz' },
  { package: 'mmdebstrap', command: 'mmdebstrap' },
  // mmdebstrap without root maps user ids with it.
  { package: 'uidmap', command: 'newuidmap' },
  { package: 'ca-certificates', command: 'update-ca-certificates' },
  { package: 'tar', command: 'tar' },
];

/** Debian's Rust compiler, taken where none works; see rust.mjs. */
export const rustPackages = ['cargo', 'rustc'];

/** What a Rust compiler of any origin links the guest's programs with. */
export const rustLinkPackages = [
  { package: 'gcc', command: 'cc' },
  { package: 'libc6-dev', file: '/usr/include/stdio.h' },
];

/** What compiles better-sqlite3 where npm has no binary of it. */
export const compilerPackages = [
  { package: 'g++', command: 'g++' },
  { package: 'make', command: 'make' },
  { package: 'python3', command: 'python3' },
];

/** Independent tools the tests compare with: oracles for disks and images, a real registry. */
export const testPackages = [
  { package: 'qemu-utils', command: 'qemu-img' },
  { package: 'skopeo', command: 'skopeo' },
  { package: 'umoci', command: 'umoci' },
  { package: 'docker-registry', command: 'docker-registry' },
  { package: 'apache2-utils', command: 'htpasswd' },
  { package: 'busybox-static', command: 'busybox' },
  { package: 'attr', command: 'setfattr' },
  { package: 'openssl', command: 'openssl' },
  { package: 'iproute2', command: 'ip' },
  { package: 'curl', command: 'curl' },
  // Builds the server of the S3 protocol.
  { package: 'golang-go', command: 'go' },
  // Checks alerts (promtool).
  { package: 'prometheus', command: 'promtool' },
  // Drives the dashboard.
  { package: 'chromium', command: 'chromium' },
  // Clients of SSH, which drive boxes.
  { package: 'openssh-client', command: 'ssh' },
  { package: 'rsync', command: 'rsync' },
  // BoxLite's client for Python, which comes from PyPI.
  { package: 'python3', command: 'python3' },
  { package: 'python3-pip', command: 'pip3' },
];

/** Lists of packages, or a kernel, over a slow line. */
export const UPDATE_TIMEOUT_MS = 300_000;
/** The largest set (QEMU, Rust, compilers) is about 1.2 GB unpacked; a slow mirror needs minutes. */
const INSTALL_TIMEOUT_MS = 1_500_000;

/** What every call of apt-get is given. */
export const aptOptions = ['-q', '-o', 'Acquire::Retries=3', '-o', 'Acquire::http::Timeout=30'];
let listsAreFresh = false;

/** Packages of a list that are not there. */
export function missing(list) {
  return list.filter((entry) => !isThere(entry)).map((entry) => entry.package);
}

function isThere({ command, file }) {
  if (command) return which(command) !== undefined;
  try {
    readFileSync(file);
    return true;
  } catch {
    return false;
  }
}

/** Whether Debian's package manager is here. */
export function hasApt() {
  return which('apt-get') !== undefined && which('dpkg-deb') !== undefined;
}

/** Installs packages with apt; says what to install by hand where that is impossible. */
export async function install(packages) {
  const byHand = `Install these by hand (Debian names), then run this again: ${packages.join(' ')}`;
  if (!hasApt()) {
    throw new SetupError(`Not a Debian-like host (no apt-get), and needed: ${packages.join(' ')}`, byHand);
  }
  const prefix = await rootPrefix(byHand);
  process.stdout.write(`     installing ${packages.join(' ')}\n`);
  await updateLists(prefix);
  const args = ['apt-get', ...aptOptions, '-o', 'DPkg::Lock::Timeout=300', 'install', '-y'];
  await aptRun([...prefix, ...args, '--no-install-recommends', ...packages], INSTALL_TIMEOUT_MS, byHand);
}

/** How to become root: nothing as root, sudo else. */
export async function rootPrefix(byHand) {
  if (process.getuid() === 0) return [];
  const sudo = which('sudo');
  if (sudo && process.stdin.isTTY) return [sudo];
  const quiet = { timeoutMs: 10_000, foreground: true };
  if (sudo && (await tryRun(sudo, ['-n', 'true'], quiet)).status === 0) return [sudo, '-n'];
  throw new SetupError(
    sudo ? 'sudo asks for a password and there is no terminal' : 'Neither root nor sudo',
    byHand,
  );
}

/** Reads the lists of packages again, once in the life of this process. */
export async function updateLists(prefix) {
  if (listsAreFresh) return;
  await aptRun([...prefix, 'apt-get', ...aptOptions, 'update'], UPDATE_TIMEOUT_MS);
  listsAreFresh = true;
}

/** `timeout` runs below sudo, because a plain user may not signal root's processes. */
async function aptRun(argv, timeoutMs, hint) {
  const at = argv.indexOf('apt-get');
  const limited = [
    ...argv.slice(0, at),
    'env',
    'DEBIAN_FRONTEND=noninteractive',
    'timeout',
    '--kill-after=10',
    String(timeoutMs / 1000),
    ...argv.slice(at),
  ];
  const [command, ...args] = limited;
  const foreground = command !== 'env';
  await run(command, args, { timeoutMs: timeoutMs + 30_000, label: 'apt-get', hint, foreground });
}
