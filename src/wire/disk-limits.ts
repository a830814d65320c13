import type { DiskLimits } from '../api/index.js';
import { compact, type JsonObject } from './json.js';

/** `disk_io` of a box, by BoxLite's names: bytes and operations per second. */
export interface DiskLimitsJson {
  readonly read_bps?: number;
  readonly write_bps?: number;
  readonly read_iops?: number;
  readonly write_iops?: number;
}

const names: Readonly<Record<keyof DiskLimits, keyof DiskLimitsJson>> = {
  readBytesPerSecond: 'read_bps',
  writeBytesPerSecond: 'write_bps',
  readOperationsPerSecond: 'read_iops',
  writeOperationsPerSecond: 'write_iops',
};

/** Limits of disks on the wire. What is not known stays as it is, so that the server refuses it. */
export function diskLimitsToJson(limits: DiskLimits): DiskLimitsJson {
  if (typeof limits !== 'object' || limits === null || Array.isArray(limits)) return limits as DiskLimitsJson;
  const entries = Object.entries(limits) as [keyof DiskLimits, number | undefined][];
  return compact(Object.fromEntries(entries.map(([name, value]) => [names[name] ?? name, value])));
}

/** The inverse of {@link diskLimitsToJson}. */
export function diskLimitsFromJson(json: DiskLimitsJson): DiskLimits {
  return compact({
    readBytesPerSecond: json.read_bps,
    writeBytesPerSecond: json.write_bps,
    readOperationsPerSecond: json.read_iops,
    writeOperationsPerSecond: json.write_iops,
  });
}

/** The limits of a box of which a server told; none where it says nothing. */
export function diskLimitsOf(json: JsonObject): DiskLimits {
  const told = json['disk_io'];
  return typeof told === 'object' && told !== null ? diskLimitsFromJson(told) : {};
}
