import type { Box } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { diskLimitSpecs, toDiskLimits } from '../box-options.js';
import { createCommand } from '../command.js';
import type { Context } from '../context.js';
import { refusedChanges } from '../refused.js';
import { flag, required, several, text, value } from '../specs.js';
import { forEachTarget, requireBox, requireRunning } from '../targets.js';
import { oneOf, parseDurationMs, parseDurationSeconds, parseSignal } from '../values.js';

const stopTimeout = value('-t, --timeout <duration>', 'time to end in order (default: 10s)', parseDurationMs);
const boxesArgument = { boxes: several('box', 'names or ids') };
const boxArgument = { box: required('box', 'name or id') };

export const start = createCommand({
  name: 'start',
  summary: 'start stopped boxes',
  args: boxesArgument,
  options: { discardMemory: flag('--discard-memory', 'start a paused box afresh') },
  handler: (context, { boxes }, { discardMemory }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      await box.start({ discardMemory, signal: context.signal });
      return target;
    }),
});

export const stop = createCommand({
  name: 'stop',
  summary: 'stop boxes',
  args: boxesArgument,
  options: { timeout: stopTimeout },
  handler: (context, { boxes }, { timeout }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      await box.stop({ timeoutMs: timeout, signal: context.signal });
      return target;
    }),
});

export const restart = createCommand({
  name: 'restart',
  summary: 'stop boxes and start them again',
  args: boxesArgument,
  options: { timeout: stopTimeout },
  handler: (context, { boxes }, { timeout }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      await box.stop({ timeoutMs: timeout, signal: context.signal });
      await box.start({ signal: context.signal });
      return target;
    }),
});

export const kill = createCommand({
  name: 'kill',
  summary: 'end boxes at once, or send a signal to their commands',
  args: boxesArgument,
  options: { signal: text('-s, --signal <signal>', 'name or number (default: KILL, which stops the box)') },
  handler: (context, { boxes }, { signal }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      await requireRunning(context, box);
      if (isKill(signal)) await box.stop({ timeoutMs: 0, signal: context.signal });
      else await signalCommands(context, box, signal);
      return target;
    }),
});

const isKill = (signal: string | undefined): signal is undefined =>
  signal === undefined || /^(SIG)?KILL$|^9$/i.test(signal);

/** Sends a signal to every command that runs in a box. */
async function signalCommands(context: Context, box: Box, signal: string): Promise<void> {
  const executions = await box.executions.list({ signal: context.signal });
  const running = executions.filter(({ status }) => status === 'running');
  if (running.length === 0) {
    throw new CryoboxError('invalid_state', `no command runs in ${box.name ?? box.id}`, {
      hint: 'Leave --signal out to end the box itself.',
    });
  }
  for (const { id } of running)
    await box.executions.signal(id, parseSignal(signal), { signal: context.signal });
}

export const rename = createCommand({
  name: 'rename',
  summary: 'give a box another name',
  args: { ...boxArgument, name: required('name', 'the new name') },
  options: {},
  async handler(context, { box, name }) {
    await (await requireBox(context, box)).rename(name, { signal: context.signal });
  },
});

export const update = createCommand({
  name: 'update',
  summary: 'change the limits of the disks of boxes; what is not said stays',
  args: boxesArgument,
  options: { ...diskLimitSpecs, diskLimits: flag('--no-disk-limits', 'lifts those that are not named') },
  refused: refusedChanges,
  handler: (context, { boxes }, { diskLimits: keep, ...options }) => {
    const wanted = toDiskLimits(options);
    if (wanted === undefined && keep) {
      throw new CryoboxError('invalid_argument', 'Nothing to change was named', {
        hint: 'Give --disk-read-bps, --disk-write-bps, --disk-read-iops, --disk-write-iops or --no-disk-limits.',
      });
    }
    return forEachTarget(context, boxes, async (target) => {
      const { signal } = context;
      const box = await requireBox(context, target);
      const kept = keep ? (await box.info({ signal })).diskLimits : {};
      await box.limitDisk({ ...kept, ...wanted }, { signal });
      return target;
    });
  },
});

export const lifetime = createCommand({
  name: 'lifetime',
  summary: 'say how long each run of a box lasts, the present one from now on',
  args: { ...boxArgument, duration: required('duration', 'such as 90s, 15m or 8h; 0: without end') },
  options: {
    action: value(
      '--action <action>',
      'stop, pause or remove (default: as before)',
      oneOf('stop', 'pause', 'remove'),
    ),
    extendOnly: flag('--extend-only', 'changes nothing where the run would end later'),
  },
  async handler(context, { box, duration }, { action, extendOnly }) {
    const seconds = parseDurationSeconds(duration);
    await (await requireBox(context, box)).setLifetime(seconds, {
      action,
      extendOnly,
      signal: context.signal,
    });
  },
});

export const rm = createCommand({
  name: 'rm',
  summary: 'remove boxes',
  args: boxesArgument,
  options: {
    force: flag('-f, --force', 'also when they run'),
    volumes: flag('-v, --volumes', 'no effect: a volume has a name, and outlives boxes'),
  },
  handler: (context, { boxes }, { force }) =>
    forEachTarget(context, boxes, async (target) => {
      const runtime = await context.runtime();
      await runtime.remove(target, { force, signal: context.signal });
      return target;
    }),
});
