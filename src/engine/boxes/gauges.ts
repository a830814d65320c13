import type { MetricsPoint } from '../../api/index.js';
import type { GuestMetrics } from '../../guest/index.js';

/** What a guest has in use, in bytes; of its network since its boot, without the loopback. */
export type Gauges = Omit<MetricsPoint, 'at' | 'cpuPercent'>;

/** The gauges in what a guest says of itself. */
export function gaugesOf({ memory, disk, network }: GuestMetrics): Gauges {
  const cards = network.filter((card) => card.interface !== 'lo');
  const sum = (key: 'sentBytes' | 'receivedBytes'): number =>
    cards.reduce((total, card) => total + card[key], 0);
  return {
    memoryBytes: memory.totalBytes - memory.availableBytes,
    diskUsedBytes: disk.totalBytes - disk.freeBytes,
    networkBytesSent: sum('sentBytes'),
    networkBytesReceived: sum('receivedBytes'),
  };
}
