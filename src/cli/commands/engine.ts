import { environmentValue } from '../../base/environment.js';
import { CryoboxError, messageOf } from '../../errors.js';
import type { EngineStatus } from '../../home/control.js';
import { createCommand, createGroup } from '../command.js';
import { exitCodes } from '../failure.js';
import { printOne } from '../listing.js';
import { processLogger } from '../logger.js';
import { readyChannel } from '../ready.js';
import { format, value } from '../specs.js';
import { parseCount, parseDurationMs } from '../values.js';

const controls = () => import('../../home/control.js');

const start = createCommand({
  name: 'start',
  summary: 'start the background engine of the home',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { startEngine } = await controls();
    await printOne(context, format, await startEngine(context.connection.home), statusFacts);
  },
});

const stop = createCommand({
  name: 'stop',
  summary: 'stop the engine of the home; boxes go on running',
  args: {},
  options: {},
  async handler(context) {
    const { stopEngine } = await controls();
    const stopped = await stopEngine(context.connection.home);
    await context.stderr.line(stopped ? 'stopped' : 'no engine was running');
  },
});

const status = createCommand({
  name: 'status',
  summary: 'say whether an engine runs; ends with 1 when none does',
  args: {},
  options: { format },
  async handler(context, _, { format }) {
    const { engineStatus } = await controls();
    const found = await engineStatus(context.connection.home);
    await printOne(context, format, found, statusFacts);
    return found.running ? 0 : exitCodes.problemsFound;
  },
});

function statusFacts({
  home,
  socket,
  running,
  answering,
  pid,
  kind,
  version,
}: EngineStatus): Record<string, string | number | null> {
  const state = running ? (answering ? 'running' : 'running, not answering') : 'not running';
  return { engine: state, home, socket, pid, kind, version };
}

/** An engine nobody needs costs memory; one that is needed again starts within a second. */
const defaultIdleExitMs = 15 * 60 * 1000;

/** After how long an engine that nobody needs ends: `CRYOBOX_IDLE_EXIT`, a duration, `0` for never. */
function idleExitMs(): number {
  const text = environmentValue('CRYOBOX_IDLE_EXIT');
  if (text === undefined) return defaultIdleExitMs;
  try {
    return parseDurationMs(text);
  } catch (error) {
    const got = `CRYOBOX_IDLE_EXIT is ${JSON.stringify(text)}: ${messageOf(error)}`;
    throw new CryoboxError('config_error', got, {
      hint: 'Set it to a duration such as 30m, or to 0 for never.',
    });
  }
}

/** The process behind `engine start`, and behind every command that needs an engine. */
const run = createCommand({
  name: 'run',
  summary: 'be the engine of the home, in the foreground',
  hidden: true,
  args: {},
  options: { poolSize: value('--pool-size <count>', 'waiting machines per shape', parseCount) },
  async handler(context, _, { poolSize }) {
    const ready = readyChannel();
    try {
      const { serveEngine, defaultHome, keepEngineLogSmall } = await import('../../home/index.js');
      const home = context.connection.home ?? defaultHome();
      const idleMs = idleExitMs();
      using _log = keepEngineLogSmall(home);
      const served = await serveEngine({ home, poolSize, kind: 'background', logger: await processLogger() });
      ready.succeeded();
      const ends = [context.interrupts.wait(), served.handedOver];
      await Promise.race(idleMs === 0 ? ends : [...ends, served.idle(idleMs)]);
      await served.close();
    } catch (error) {
      ready.failed(error);
      throw error;
    }
  },
});

export const engine = createGroup({
  name: 'engine',
  summary: 'the background engine of the home: start, stop, status',
  commands: [start, stop, status, run],
});
