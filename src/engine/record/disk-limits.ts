import { boxLimits, type DiskLimits } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { checkInteger } from './integers.js';

const { diskBytesPerSecond: bytes, diskOperationsPerSecond: operations } = boxLimits;

const ranges: Readonly<Record<keyof DiskLimits, { readonly min: number; readonly max: number }>> = {
  readBytesPerSecond: bytes,
  writeBytesPerSecond: bytes,
  readOperationsPerSecond: operations,
  writeOperationsPerSecond: operations,
};

/** Throws `invalid_argument` for limits that are out of range, `unsupported` naming one that is not known. */
export function checkDiskLimits(limits: DiskLimits | undefined): void {
  if (limits === undefined) return;
  if (typeof limits !== 'object' || limits === null || Array.isArray(limits)) {
    throw new CryoboxError('invalid_argument', `diskLimits must be an object, got ${JSON.stringify(limits)}`);
  }
  const given = Object.entries(limits).filter(([, value]) => value !== undefined);
  const unknown = given.map(([name]) => name).filter((name) => !Object.hasOwn(ranges, name));
  if (unknown.length > 0) {
    const options = unknown.map((name) => `diskLimits.${name}`);
    throw new CryoboxError('unsupported', `not supported: ${options.join(', ')}`, { details: { options } });
  }
  for (const [name, { min, max }] of Object.entries(ranges)) {
    checkInteger(`diskLimits.${name}`, limits[name as keyof DiskLimits], min, max);
  }
}
