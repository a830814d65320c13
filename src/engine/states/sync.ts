import { messageOf } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import type { MachinesContext } from '../machines/context.js';
import { withoutLimits } from '../machines/disk-limits.js';
import type { LiveBox } from '../machines/live.js';

/** A guest whose disk is slow is captured all the same: with its memory the capture is exact. */
const syncTimeoutMs = 2_000;

/**
 * Has a guest write its disks while it still runs. A memory goes on without it; but disks that are used without their
 * memory later (a clone, an export, a start that gives the memory up) lack what only the guest's page cache had.
 * Not done where somebody waits for a pause: it takes about half as long again. Never fails.
 */
export async function syncDisks(ctx: MachinesContext, live: LiveBox, row: BoxRow): Promise<void> {
  const sync = (): Promise<unknown> => live.agent.system.sync({ timeoutMs: syncTimeoutMs });
  await withoutLimits(ctx, live, row, sync).catch((error: unknown) => {
    ctx.logger.warn('a guest did not write its disks in time', {
      box: live.boxId,
      reason: messageOf(error),
    });
  });
}
