import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../base/log.js';
import { messageOf } from '../errors.js';
import type { EngineContext } from './boxes/context.js';
import { leave } from './machines/live.js';

/**
 * A step of closing gets so long: what changes something and cannot be rolled back waits for a guest at most so long
 * (states/standstill.ts), and writes the memory of one. What has not ended then loses its machine, and fails.
 */
const stepLimitMs = 60_000;
/** What uses a machine ends as soon as the connection to it does. */
const useLimitMs = 10_000;

/**
 * Closes an engine: nothing begins any more, what changes something comes to its end or is rolled back, what uses machines
 * ends with the connections to them, and the database is closed. A step that fails or takes too long is logged and keeps
 * none of the others from being taken. Never fails.
 */
export async function closeEngine(ctx: EngineContext): Promise<void> {
  const { work } = ctx;
  const inTime = async (kind: 'change' | 'use', limitMs: number): Promise<void> => {
    if (!(await work.settled(kind, limitMs))) throw new Error(`not within ${limitMs} ms`);
  };
  const steps: Readonly<Record<string, () => unknown>> = {
    'let nothing begin': () => {
      work.close();
      ctx.closing.abort();
    },
    'end the published ports': () => ctx.ports.close(),
    'end what is being changed': () => inTime('change', stepLimitMs),
    'end what is done to idle boxes': () => ctx.activity.close(),
    'end what is done at the end of runs': () => ctx.runEnds.close(),
    'end the series of metrics': () => ctx.series.close(),
    'end the process that puts secrets in': () => ctx.interception.close(),
    'end the hot machines': () => ctx.hot.close(),
    'end the replication': () => ctx.replicator?.close(),
    'end the machines that wait': () => ctx.pool.close(),
    'end the page servers that wait': () => ctx.pageServers.close(),
    'end what is done with images': () => ctx.images.close(),
    'end the shortening of disks': () => ctx.flattener.close(),
    'end the hashing of layers': () => ctx.hasher.close(),
    'end the merging of memories': () => ctx.merger.close(),
    'end the collection of garbage': () => ctx.gc.close(),
    'leave the machines': () => {
      for (const live of ctx.live.all()) leave(live, 'closed');
      ctx.live.close();
    },
    'end the streams': () => work.endStreams(),
    'end what uses machines': () => inTime('use', useLimitMs),
    'let go of the machines': () => {
      for (const live of ctx.live.all()) live.machine.disconnect();
    },
    // Whatever was still under way has lost its machine now.
    'end what was being changed for too long': () => inTime('change', useLimitMs),
    'write the counters': () => ctx.counters.flush(),
    'close the database': () => ctx.db.destroy(),
  };
  for (const [what, step] of Object.entries(steps)) await attempt(what, step, ctx.logger);
}

async function attempt(what: string, step: () => unknown, logger: Logger): Promise<void> {
  const stop = new AbortController();
  const late = delay(stepLimitMs, undefined, { signal: stop.signal }).then(
    () => Promise.reject(new Error(`not within ${stepLimitMs} ms`)),
    () => undefined,
  );
  try {
    await Promise.race([(async () => await step())(), late]);
  } catch (error) {
    warn(logger, what, error);
  } finally {
    stop.abort();
  }
}

function warn(logger: Logger, what: string, error: unknown): void {
  try {
    logger.warn(`the engine closes, and cannot ${what}`, { reason: messageOf(error) });
  } catch {
    // A logger that throws keeps nobody from closing.
  }
}
