import { finished } from 'node:stream/promises';
import { promisify } from 'node:util';
import type { BoxStatus, CallOptions, OperationName, PortConnection } from '../../api/index.js';
import { ruleOf } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { resumeBox } from '../memory/resume.js';
import { armTimers } from './idle.js';
import { checkLegal } from './locked.js';
import { requireRow } from './rows.js';
import { startBox } from './start.js';

/**
 * Gives the running box to a task that may run beside others; a box that does not run is brought up first when its
 * `autoResume` allows. The box counts as used until the task has ended.
 */
export async function useBox<T>(
  ctx: EngineContext,
  boxId: string,
  operation: OperationName,
  task: (live: LiveBox) => Promise<T>,
): Promise<T> {
  const done = ctx.timers.use(boxId);
  try {
    const live = ctx.live.get(boxId) ?? (await wake(ctx, boxId, operation));
    const result = await task(live);
    live.memory.pager?.settle();
    return result;
  } finally {
    done();
  }
}

/** Waits for what is under way on the box, then starts it if that is what is missing. */
async function wake(ctx: EngineContext, boxId: string, operation: OperationName): Promise<LiveBox> {
  return await ctx.boxLocks.run(boxId, async () => {
    const row = await requireRow(ctx.db, boxId);
    const live = ctx.live.get(boxId);
    if (live) return live;
    const wakes = ruleOf(operation).wakes?.includes(row.status as BoxStatus) ?? false;
    if (!wakes) {
      checkLegal(operation, row);
      throw new CryoboxError('machine_failed', `box ${boxId} has lost its machine`);
    }
    if (row.auto_resume === 0) {
      throw new CryoboxError('stopped', `the box is ${row.status}, and its autoResume is off`, {
        details: { box: boxId, status: row.status },
      });
    }
    const isPaused = row.status === 'paused';
    ctx.activities.set(boxId, isPaused ? 'resuming' : 'starting');
    try {
      const started = isPaused ? (await resumeBox(ctx, row)).live : await startBox(ctx, row);
      armTimers(ctx, row);
      return started;
    } finally {
      ctx.activities.delete(boxId);
    }
  });
}

/** Opens a byte stream to a TCP port inside the guest; the box counts as used until both directions have ended. */
export async function dialBox(
  ctx: EngineContext,
  live: LiveBox,
  port: number,
  options: CallOptions,
): Promise<PortConnection> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new CryoboxError('invalid_argument', `port must be a whole number from 1 to 65535, got ${port}`);
  }
  const { input, output } = await live.agent.dial({ port, signal: options.signal });
  output.on('error', () => undefined);
  const unused = ctx.timers.use(live.boxId);
  void Promise.allSettled([finished(input, { writable: false }), finished(output, { readable: false })]).then(
    unused,
  );
  const done = promisify((callback: (error?: Error | null) => void) => output.end(callback));
  return {
    input: {
      write: (chunk) =>
        new Promise((resolve, reject) => {
          output.write(chunk, (error) => (error ? reject(error) : resolve()));
        }),
      end: async () => {
        await done();
      },
    },
    output: input,
    close: async () => {
      input.destroy();
      output.destroy();
    },
  };
}
