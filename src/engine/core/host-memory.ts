import { totalmem } from 'node:os';

const bytesPerMiB = 1024 ** 2;

/** Memory of the host in MiB, or of the container that this process is in when that has less. */
export function hostMemoryMiB(): number {
  // 0, or more than there is, where nothing limits the process (nodejs.org/api/process.html).
  const constrained = process.constrainedMemory();
  const total = totalmem();
  return Math.floor((constrained > 0 ? Math.min(constrained, total) : total) / bytesPerMiB);
}
