import type { BoxInfo } from '../api/index.js';
import { formatAge } from './output/units.js';

/** The exit code of the main command's last run as a shell tells it; 0 while it runs, and without one. */
function exitCodeOf({ main }: BoxInfo): number {
  return main?.signal ? 128 + main.signal : (main?.exitCode ?? 0);
}

/** State of a box, and what is under way on it. */
export const statusOf = (box: BoxInfo): string =>
  box.operation ? `${box.status} (${box.operation})` : box.status;

/** A box as templates see it: all of it, and what container tools call their columns. */
export function boxView(box: BoxInfo, idOf: (id: string) => string = (id) => id): unknown {
  return {
    ...box,
    id: idOf(box.id),
    name: box.name ?? '',
    names: box.name ?? '',
    command: [...box.entrypoint, ...box.cmd].join(' '),
    state: box.status,
    status: statusOf(box),
    runningFor: formatAge(box.createdAt),
    labels: textOf(box.labels, ','),
    mounts: box.volumes.map(({ volume }) => volume).join(','),
    size: box.storage.diskBytes,
    ports: '',
  };
}

/** A box as templates of `inspect` see it: all of it, and what container tools have in `State`, `Config` and `HostConfig`. */
export function boxDocument(box: BoxInfo): unknown {
  return {
    ...box,
    name: box.name ?? '',
    created: box.createdAt,
    state: {
      status: box.status,
      running: box.status === 'running',
      paused: box.status === 'paused',
      restarting: box.operation === 'starting',
      dead: box.status === 'failed',
      pid: box.pid ?? 0,
      exitCode: exitCodeOf(box),
      error: box.failure ?? '',
    },
    config: {
      image: box.image,
      env: Object.entries(box.env).map(([name, value]) => `${name}=${value}`),
      cmd: box.cmd,
      entrypoint: box.entrypoint,
      workingDir: box.workingDir,
      user: box.user,
      labels: box.labels,
    },
    hostConfig: {
      memory: box.memoryMiB * 1024 * 1024,
      nanoCpus: box.cpus * 1e9,
      networkMode: box.network.outbound === 'enabled' ? 'outbound' : 'none',
      capAdd: box.capabilities.add ?? [],
      capDrop: box.capabilities.drop ?? [],
    },
    mounts: box.volumes.map(({ volume, guestPath, readOnly }) => ({
      type: 'volume',
      name: volume,
      destination: guestPath,
      rw: !readOnly,
    })),
  };
}

/** `KEY=VALUE` of each entry. */
export function textOf(record: Readonly<Record<string, string>>, between: string): string {
  return Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(between);
}
