// What runs in a root of another host, and what is put into it.
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { run } from './run.mjs';

export const MINUTE_MS = 60_000;
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
/** The Node that runs this, in the place where an administrator's programs are. */
const NODE = 'usr/local/bin/node';

/** Run in name spaces of its own: processes and mounts end with the first process, however that ends. */
const enter = `
  set -e
  root=$1 directory=$2; shift 2
  mount --make-rprivate /
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" 2>/dev/null || true
  mount --rbind /dev "$root/dev"
  exec chroot "$root" env -i HOME=/root LC_ALL=C.UTF-8 CI=true NODE_EXTRA_CA_CERTS=${CERTIFICATES} \\
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
`;

/** Runs a command in a root; throws a SetupError with its last lines when it fails. */
export async function inRoot(root, { directory, minutes, label, command }) {
  // Names and certificates are this host's: it may stand behind a mirror of its own.
  await copyFile('/etc/resolv.conf', join(root, 'etc/resolv.conf'));
  await mkdir(dirname(join(root, CERTIFICATES)), { recursive: true });
  await copyFile(CERTIFICATES, join(root, CERTIFICATES));
  const spaces = ['--mount', '--pid', '--fork', '--kill-child'];
  const args = [...spaces, 'sh', '-c', enter, 'sh', root, directory, ...command];
  await run('unshare', args, { timeoutMs: minutes * MINUTE_MS, label });
  return 'passed';
}

/**
 * Files that git knows or would take, as they are now, with this checkout's npm packages, Node and images of tests; what
 * set-up has made in the root stays there.
 */
export async function copyCheckout(root) {
  const target = join(root, 'src');
  await mkdir(join(target, '.cache'), { recursive: true });
  for (const folder of ['src', 'test', 'scripts', 'agent/src'])
    await rm(join(target, folder), { recursive: true, force: true });
  const pipe = 'git ls-files -coz --exclude-standard | tar --null --files-from=- -c | tar -x -C "$1"';
  await run('bash', ['-o', 'pipefail', '-c', pipe, 'bash', target], { timeoutMs: 2 * MINUTE_MS });
  await copyTree('node_modules', target);
  if (existsSync('.cache/seed') && !existsSync(join(target, '.cache/seed'))) {
    await copyTree('.cache/seed', join(target, '.cache'));
  }
  await mkdir(dirname(join(root, NODE)), { recursive: true });
  await copyFile(process.execPath, join(root, NODE));
  return 'copied';
}

async function copyTree(from, into) {
  await run('cp', ['-a', '--sparse=always', resolve(from), into], { timeoutMs: 5 * MINUTE_MS });
}
