import { readFile, stat, statfs } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';
import type { HomePaths } from '../../engine/core/home.js';
import { homeWarning, inspectHome, nearestDirectory } from '../../engine/core/home-directory.js';
import { type Check, type Finding, failed, ok, warning } from './check.js';

const gib = 1024 ** 3;
/** An image of a small distribution and a golden machine fit; nothing else does. */
const leastFreeBytes = 2 * gib;
/** A few images, boxes and paused memories. */
const ampleFreeBytes = 10 * gib;

/** The home: whose it is, how much fits, and whether its machines' memory can be read. */
export function homeChecks(paths: HomePaths): readonly Check[] {
  return [
    { name: 'home', look: () => checkHome(paths) },
    { name: 'disk space', look: () => checkSpace(paths.root) },
    { name: 'ptrace', look: checkPtrace },
  ];
}

async function checkHome(paths: HomePaths): Promise<Finding> {
  const { root } = paths;
  if ((await inspectHome(paths)) === 'absent') return ok(`${root}, not there yet`);
  const place = await homeWarning(paths);
  if (place) return warning(place, 'Set CRYOBOX_HOME to a directory on a disk of this host.');
  const { mode } = await stat(root);
  if ((mode & 0o077) === 0) return ok(root);
  const shown = (mode & 0o777).toString(8);
  return warning(`${root} can be read by others (mode ${shown})`, `chmod 700 ${root}`);
}

async function checkSpace(root: string): Promise<Finding> {
  const facts = await statfs(await nearestDirectory(root));
  const free = facts.bavail * facts.bsize;
  const detail = `${(free / gib).toFixed(1)} GiB free`;
  const hint = 'Free space, run `cryobox gc`, or set CRYOBOX_HOME to a larger file system.';
  if (free < leastFreeBytes) return failed(detail, hint);
  return free < ampleFreeBytes ? warning(detail, hint) : ok(detail);
}

/** Reading a machine's memory is what ptrace access allows (Yama, Documentation/admin-guide/LSM/Yama.rst). */
async function checkPtrace(): Promise<Finding> {
  const text = await ifExists(readFile('/proc/sys/kernel/yama/ptrace_scope', 'utf8'));
  const scope = Number(text?.trim() ?? '0');
  const detail = text === undefined ? 'not restricted' : `kernel.yama.ptrace_scope is ${scope}`;
  const isRoot = process.getuid?.() === 0;
  if (scope === 0 || (isRoot && scope < 3)) return ok(detail);
  const hint = 'sysctl -w kernel.yama.ptrace_scope=0, or run the engine as root.';
  if (scope === 1) return warning(`${detail}: memory of machines of an earlier engine cannot be read`, hint);
  return failed(`${detail}: memory of machines cannot be read, so boxes cannot be paused`, hint);
}
