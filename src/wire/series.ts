import type { MetricsSeries } from '../api/index.js';
import { asObject, asObjects, date, type JsonObject, number } from './json.js';

/** A series as the API says it. */
export function seriesToJson({ intervalMs, points }: MetricsSeries): JsonObject {
  return {
    interval_ms: intervalMs,
    points: points.map((point) => ({
      at: point.at.toISOString(),
      cpu_percent: point.cpuPercent,
      memory_bytes: point.memoryBytes,
      disk_used_bytes: point.diskUsedBytes,
      network_bytes_sent: point.networkBytesSent,
      network_bytes_received: point.networkBytesReceived,
    })),
  };
}

/** The inverse of {@link seriesToJson}. */
export function seriesFromJson(value: unknown): MetricsSeries {
  const json = asObject(value, 'series');
  return {
    intervalMs: number(json, 'interval_ms'),
    points: asObjects(json.points, 'points').map((point) => ({
      at: date(point, 'at'),
      cpuPercent: number(point, 'cpu_percent'),
      memoryBytes: number(point, 'memory_bytes'),
      diskUsedBytes: number(point, 'disk_used_bytes'),
      networkBytesSent: number(point, 'network_bytes_sent'),
      networkBytesReceived: number(point, 'network_bytes_received'),
    })),
  };
}
