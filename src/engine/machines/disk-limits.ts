import type { DiskLimits } from '../../api/index.js';
import { messageOf } from '../../errors.js';
import { type Machine, throttleDisks } from '../../machine/index.js';
import type { BoxRow } from '../../store/index.js';
import { configOf } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';

/** Makes a machine keep limits, whatever it kept before. Throws `machine_failed`. */
export async function keepLimits(machine: Machine, limits: DiskLimits): Promise<void> {
  await throttleDisks(machine.qmp, {
    readBytes: limits.readBytesPerSecond ?? 0,
    writeBytes: limits.writeBytesPerSecond ?? 0,
    readOperations: limits.readOperationsPerSecond ?? 0,
    writeOperations: limits.writeOperationsPerSecond ?? 0,
  });
}

/** Makes a machine that has no limits yet keep those of its box. Throws `machine_failed`. */
export async function limitNewMachine(machine: Machine, row: Pick<BoxRow, 'config'>): Promise<void> {
  const limits = configOf(row).diskLimits;
  if (isLimited(limits)) await keepLimits(machine, limits);
}

/**
 * Lifts the limits of a box that is about to end: what its guest has to write then is waited for only so long. A machine
 * that has ended already has none.
 */
export async function liftLimits(
  ctx: MachinesContext,
  live: LiveBox,
  row: Pick<BoxRow, 'config'>,
): Promise<void> {
  if (isLimited(configOf(row).diskLimits)) await change(ctx, live, {});
}

/**
 * Runs `task` while the disks of a box are not limited: what the guest has to write for us is not the box's own doing, and
 * is waited for only so long. Throws what `task` throws.
 */
export async function withoutLimits<T>(
  ctx: MachinesContext,
  live: LiveBox,
  row: Pick<BoxRow, 'config'>,
  task: () => Promise<T>,
): Promise<T> {
  const limits = configOf(row).diskLimits;
  if (!isLimited(limits)) return await task();
  await change(ctx, live, {});
  try {
    return await task();
  } finally {
    await change(ctx, live, limits);
  }
}

/** A machine that ends meanwhile has no limits to keep; whoever uses it next is told of its end. */
async function change(ctx: MachinesContext, live: LiveBox, limits: DiskLimits): Promise<void> {
  await keepLimits(live.machine, limits).catch((error: unknown) => {
    ctx.logger.warn('cannot change the limits of disks', { box: live.boxId, reason: messageOf(error) });
  });
}

function isLimited(limits: DiskLimits): boolean {
  return Object.values(limits).some((value) => value !== undefined);
}
