import { finished } from 'node:stream/promises';
import type { BoxStatus, DialOptions, OperationName, PortConnection } from '../../api/index.js';
import { ruleOf } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { inBackground } from '../../base/in-background.js';
import { doesNotRun } from '../../base/not-running.js';
import { PortStream } from '../../base/port-stream.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import type { MachinesContext } from '../machines/context.js';
import { diskFull, requireRoom } from '../machines/disk-room.js';
import type { LiveBox } from '../machines/live.js';
import { checkLegal, underLock } from '../machines/locked.js';
import { startBox } from '../machines/start.js';
import { livingMachine } from '../machines/watch.js';
import { requireRow } from '../record/rows.js';
import { refuseUndecided } from '../record/undecided.js';
import { resumeBox } from '../states/resume.js';

/**
 * Gives the running box to a task that may run beside others; a box that does not run is brought up first when its
 * `autoResume` allows. Who meets a pause, a stop or a removal waits for its end, and finds what became of the box. The box
 * counts as used until the task has ended. Without `mayWake` a box that does not run is left as it is: `stopped`. Throws `cancelled` when the signal is raised before the task begins,
 * `not_found`, `invalid_state`, `stopped`, what bringing the box up throws, and what the task throws.
 */
export async function useBox<T>(
  ctx: MachinesContext,
  boxId: string,
  operation: OperationName,
  task: (live: LiveBox) => Promise<T>,
  signal?: AbortSignal,
  mayWake = true,
): Promise<T> {
  using _ = ctx.activity.use(boxId);
  for (;;) {
    throwIfCancelled(signal, operation);
    const running = ctx.live.get(boxId);
    const isReady = running?.gate.isOpen && !running.agent.hasEnded;
    const live = isReady ? running : await wake(ctx, boxId, operation, signal, mayWake);
    // Whoever had the lock next may be about to end it already.
    if (!live.gate.isOpen) continue;
    requireRoom(live);
    const leave = live.gate.enter();
    try {
      const result = await task(live).catch((error: unknown) => {
        // The guest did not answer because it stood still.
        throw live.disks.full && isCryoboxError(error, 'timeout') ? diskFull(boxId) : error;
      });
      live.memory.pager?.settle();
      return result;
    } finally {
      leave();
    }
  }
}

/** Waits for what is under way on the box, then starts it if that is what is missing. */
async function wake(
  ctx: MachinesContext,
  boxId: string,
  operation: OperationName,
  signal: AbortSignal | undefined,
  mayWake: boolean,
): Promise<LiveBox> {
  const bringUp = async (): Promise<LiveBox> => {
    const live = await livingMachine(ctx, boxId, signal);
    const row = await requireRow(ctx.db, boxId);
    if (live?.gate.isOpen) return live;
    if (live) throw new CryoboxError('machine_failed', `the machine of box ${boxId} could not be ended`);
    const wakes = ruleOf(operation).wakes?.includes(row.status as BoxStatus) ?? false;
    if (!wakes) {
      checkLegal(operation, row);
      throw new CryoboxError('machine_failed', `box ${boxId} has lost its machine`);
    }
    refuseUndecided(operation, row);
    if (!mayWake) throw doesNotRun('a connection', row);
    if (ctx.wakes === false) throw mayNotWake(row);
    if (row.auto_resume === 0) {
      throw new CryoboxError('stopped', `the box is ${row.status}, and its autoResume is off`, {
        details: { box: boxId, status: row.status },
      });
    }
    const isPaused = row.status === 'paused';
    ctx.activities.set(boxId, isPaused ? 'resuming' : 'starting');
    try {
      return isPaused ? (await resumeBox(ctx, row, { signal })).live : await startBox(ctx, row, signal);
    } finally {
      ctx.activities.delete(boxId);
    }
  };
  return await underLock(ctx, boxId, bringUp, signal);
}

function mayNotWake({ id, status }: BoxRow): CryoboxError {
  return new CryoboxError('permission_denied', `box ${id} is ${status}, and this key may not bring it up`, {
    hint: 'Start or resume the box with a key that has the scope box:write, then read again.',
    details: { box: id, status, scope: 'box:write' },
  });
}

/** Connects to a port of a box, which is brought up first where `wake` allows. Throws what {@link useBox} does. */
export async function openPort(
  ctx: MachinesContext,
  boxId: string,
  port: number,
  options: DialOptions,
): Promise<PortConnection> {
  const dial = (live: LiveBox): Promise<PortConnection> => dialBox(ctx, live, port, options);
  return await useBox(ctx, boxId, 'exec', dial, options.signal, options.wake);
}

/** Opens a byte stream to a TCP port inside the guest; the box counts as used until both directions have ended. */
async function dialBox(
  ctx: MachinesContext,
  live: LiveBox,
  port: number,
  options: DialOptions,
): Promise<PortConnection> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new CryoboxError('invalid_argument', `port must be a whole number from 1 to 65535, got ${port}`);
  }
  const { input, output } = await live.agent.dial({ port, signal: options.signal });
  output.on('error', () => undefined);
  const use = ctx.activity.use(live.boxId);
  const bothEnded = Promise.allSettled([
    finished(input, { writable: false }),
    finished(output, { readable: false }),
  ]).then(() => use[Symbol.dispose]());
  inBackground(bothEnded, 'note the end of a connection to a port', ctx.logger);
  const callback = (task: (done: (error?: Error | null) => void) => void): Promise<void> =>
    new Promise((resolve, reject) => task((error) => (error ? reject(error) : resolve())));
  const halves = {
    input: {
      write: (chunk: Uint8Array) => callback((done) => output.write(chunk, done)),
      end: () => callback((done) => output.end(done)),
    },
    output: input,
    close: async () => {
      input.destroy();
      output.destroy();
    },
  };
  return new PortStream(halves, options);
}
