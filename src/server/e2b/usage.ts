import type { Box } from '../../api/index.js';

const mebibyte = 1024 * 1024;
const gibibyte = 1024 * mebibyte;

/** What a sandbox uses, of what it has. */
export interface Usage {
  readonly cpus: number;
  readonly cpuPercent: number;
  readonly memoryBytes: number;
  readonly memoryTotalBytes: number;
  readonly diskBytes: number;
  readonly diskTotalBytes: number;
}

/** What a sandbox uses now; undefined when it does not run. */
export async function usageOf(box: Box, signal: AbortSignal): Promise<Usage | undefined> {
  const [info, used] = await Promise.all([box.info({ signal }), box.metrics({ signal })]);
  if (info.status !== 'running') return undefined;
  return {
    cpus: info.cpus,
    cpuPercent: used.cpuPercent ?? 0,
    memoryBytes: used.memoryBytes ?? 0,
    memoryTotalBytes: info.memoryMiB * mebibyte,
    diskBytes: used.diskUsedBytes ?? 0,
    diskTotalBytes: info.diskSizeGb * gibibyte,
  };
}
