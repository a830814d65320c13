// What a host needs to run boxes, brought by the package manager of its distribution.
import { hasApt, install, missing, productPackages, rootPrefix } from './debian.mjs';
import { run, SetupError, which } from './run.mjs';

const INSTALL_TIMEOUT_MS = 1_500_000;

/**
 * Package managers, how they install without asking, and what they call Debian's packages; null: they have none, or the
 * system brings it.
 */
const managers = [
  { command: 'apt-get', args: ['install', '-y'], names: {} },
  {
    command: 'dnf',
    args: ['install', '-y'],
    names: {
      'qemu-system-x86': 'qemu-system-x86-core',
      'qemu-system-arm': 'qemu-system-aarch64-core',
      'xz-utils': 'xz',
      uidmap: 'shadow-utils',
      'ca-certificates': null,
    },
  },
  {
    command: 'pacman',
    args: ['-S', '--needed', '--noconfirm'],
    names: {
      'qemu-system-arm': 'qemu-system-aarch64',
      'xz-utils': 'xz',
      uidmap: 'shadow',
      mmdebstrap: null,
      'ca-certificates': null,
    },
  },
  {
    command: 'zypper',
    args: ['--non-interactive', 'install'],
    names: {
      'qemu-system-x86': 'qemu-x86',
      'qemu-system-arm': 'qemu-arm',
      'xz-utils': 'xz',
      uidmap: 'shadow',
      mmdebstrap: null,
      'ca-certificates': null,
    },
  },
];

/**
 * Installs what is missing of a list, by default all that the product needs, as root or with sudo; throws with the command to
 * type where neither works.
 */
export async function ensureHostPackages(wanted = productPackages) {
  const manager = managers.find(({ command }) => which(command));
  const name = (debian) => (manager && debian in manager.names ? manager.names[debian] : debian);
  const absentNow = () => missing(wanted).filter((debian) => name(debian) !== null);
  const absent = absentNow();
  if (absent.length === 0) return 'up to date';
  if (!manager) {
    throw new SetupError(
      'No package manager that is known: apt-get, dnf, pacman or zypper',
      `Install these by hand (Debian names), then run this again: ${absent.join(' ')}`,
    );
  }
  const argv = [manager.command, ...manager.args, ...absent.map(name)];
  const byHand = `Type \`sudo ${argv.join(' ')}\`, then run this again.`;
  const prefix = await rootPrefix(byHand);
  if (hasApt()) await install(absent);
  else {
    const [command, ...args] = [...prefix, ...argv];
    const foreground = prefix.length > 0;
    await run(command, args, {
      timeoutMs: INSTALL_TIMEOUT_MS,
      label: manager.command,
      hint: byHand,
      foreground,
    });
  }
  const still = absentNow();
  if (still.length > 0) throw new SetupError(`Installed, but still not found: ${still.join(' ')}`, byHand);
  return `${absent.length} installed`;
}
