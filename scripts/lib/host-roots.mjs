// Roots of other hosts, as data, and how mmdebstrap makes them.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { productPackages, rustLinkPackages, rustPackages } from './debian.mjs';
import { run } from './run.mjs';

const MIRROR = 'http://deb.debian.org/debian';
const CACHE = resolve('.cache/hosts');

/** What set-up would install, put there beforehand so that a root that is kept spares it; and what tests call. */
const packages = [
  ...[...productPackages, ...rustLinkPackages].map((entry) => entry.package),
  ...rustPackages,
  ...['qemu-utils', 'busybox-static', 'procps', 'libstdc++6', 'attr', 'openssl'],
];

/** Packages that differ most between hosts: the machine's emulator with its firmware, and the kernel of its guests. */
const machinePackages = 'qemu-* seabios ipxe-qemu libslirp0 linux-image-*';

const backports = (suite) => ({
  suite,
  packages,
  newer: { suite: `${suite}-backports`, packages: machinePackages },
});

/**
 * Hosts that are set up: QEMU and kernel are those of the release, or of its backports. A mirror may keep a state of a
 * release for longer than the release says it is good for.
 */
export const hosts = {
  debian12: { suite: 'bookworm', packages },
  'debian12-backports': backports('bookworm'),
  debian13: { suite: 'trixie', packages },
  'debian13-backports': backports('trixie'),
  sid: { suite: 'sid', packages },
};

/** The root of a host, made once for what it is made of; other roots of that name are removed. `folder`: in .cache/hosts. */
export async function makeRoot(name, host, timeoutMs) {
  const content = createHash('sha256')
    .update(JSON.stringify([MIRROR, host]))
    .digest('hex')
    .slice(0, 12);
  const folder = `${name}.${content}`;
  const path = join(CACHE, folder);
  await mkdir(CACHE, { recursive: true });
  for (const other of await readdir(CACHE)) {
    const isOurs = other.startsWith(`${name}.`) && other !== folder;
    if (isOurs) await rm(join(CACHE, other), { recursive: true, force: true });
  }
  const note = existsSync(path) ? 'there already' : 'made';
  if (note === 'made') await bootstrap(host, path, timeoutMs);
  return { path, folder, note };
}

async function bootstrap({ suite, packages: wanted, newer }, path, timeoutMs) {
  const temporary = `${path}.new`;
  const sources = [suite, ...(newer ? [newer.suite] : [])].map((it) => `deb ${MIRROR} ${it} main`);
  const args = [
    ...['--variant=minbase', '--format=directory', `--include=${wanted.join(',')}`],
    '--aptopt=Acquire::Check-Valid-Until "false"',
    ...(newer ? [`--setup-hook=${preferring(newer)}`] : []),
    ...[suite, temporary, ...sources],
  ];
  await run('mmdebstrap', args, { timeoutMs, label: 'mmdebstrap' });
  await rename(temporary, path);
}

/** A shell command for mmdebstrap that has apt take packages from another suite (apt_preferences(5)). */
function preferring({ suite, packages: names }) {
  const lines = [`Package: ${names}`, `Pin: release n=${suite}`, 'Pin-Priority: 990'];
  const quoted = lines.map((line) => `'${line}'`).join(' ');
  return `mkdir -p "$1/etc/apt/preferences.d" && printf '%s\\n' ${quoted} > "$1/etc/apt/preferences.d/newer"`;
}
