import { setTimeout as delay } from 'node:timers/promises';
import { type Box, mainExecution } from '../../api/index.js';
import { noMain } from '../../base/not-running.js';
import { CryoboxError } from '../../errors.js';
import { createCommand, type RefusedOption } from '../command.js';
import type { Context } from '../context.js';
import { flag, required, several, value } from '../specs.js';
import { forEachTarget, requireBox } from '../targets.js';
import { parseCount } from '../values.js';

/** Nothing tells a client that a main command has written, or ended; this is how often it is asked. */
const askAgainMs = 250;

const withoutTimes =
  'What a command writes is kept without times: use --tail, or let the command write them.';
const refused: readonly RefusedOption[] = [
  { flags: '--since <time>', instead: withoutTimes },
  { flags: '--until <time>', instead: withoutTimes },
  { flags: '-t, --timestamps', instead: withoutTimes },
  { flags: '--details', instead: 'Use `cryobox inspect BOX`.' },
];

export const logs = createCommand({
  name: 'logs',
  summary: "print what a box's main command wrote, or the last lines of its console",
  args: { box: required('box', 'name or id') },
  options: {
    follow: flag('-f, --follow', 'go on with what it writes, until it ends or the box stops'),
    tail: value('-n, --tail <lines>', 'only the last lines', parseCountOrAll),
    console: flag('--console', "the machine's console, also when there is a main command"),
  },
  refused,
  async handler(context, { box }, { follow, tail, console }) {
    const { signal } = context;
    const target = await requireBox(context, box);
    const { main } = await target.info({ signal });
    if (follow && console) {
      throw new CryoboxError('invalid_argument', '--follow and --console exclude each other', {
        hint: 'The console is read as it is: leave --follow out.',
      });
    }
    if (main === null && follow) throw noMain(target.id);
    if (main === null || console) {
      const text = await target.consoleLog({ signal });
      await context.stdout.write(
        lastLines(Buffer.from(text === '' || text.endsWith('\n') ? text : `${text}\n`), tail),
      );
      return;
    }
    const seen = await printKept(context, target, tail);
    if (follow) await goOn(context, target, seen);
  },
});

/** `--tail all` is all of them, as for container tools. */
function parseCountOrAll(text: string): number | undefined {
  return text === 'all' ? undefined : parseCount(text);
}

interface Seen {
  readonly stdoutAt: number;
  readonly stderrAt: number;
}

/** Prints what is kept. Gives where it ended; null of a box that does not run. */
async function printKept(context: Context, box: Box, tail: number | undefined): Promise<Seen | null> {
  const { signal } = context;
  const isThere = (await box.executions.get(mainExecution, { signal })) !== null;
  const kept = isThere ? await box.executions.output(mainExecution, { signal }) : null;
  const { stdout, stderr } = kept ?? (await box.mainOutput({ signal }));
  await context.stdout.write(lastLines(stdout, tail));
  await context.stderr.write(lastLines(stderr, tail));
  return kept && { stdoutAt: kept.stdoutAt + stdout.length, stderrAt: kept.stderrAt + stderr.length };
}

async function goOn(context: Context, box: Box, from: Seen | null): Promise<void> {
  const { signal } = context;
  for (let seen = from; seen !== null; ) {
    const info = await box.executions.get(mainExecution, { signal });
    if (info === null) return await printRest(context, box, seen);
    const { stdout, stdoutAt, stderr, stderrAt } = await box.executions.output(mainExecution, {
      ...seen,
      signal,
    });
    const lost = stdoutAt - seen.stdoutAt + stderrAt - seen.stderrAt;
    if (lost > 0) await context.stderr.line(`${lost} bytes were written too fast to be kept`);
    await context.stdout.write(stdout);
    await context.stderr.write(stderr);
    seen = { stdoutAt: stdoutAt + stdout.length, stderrAt: stderrAt + stderr.length };
    if (info.status !== 'running') return;
    await delay(askAgainMs, undefined, { signal });
  }
}

/** What a main command wrote before its box stopped: all of it is kept where that is not much. */
async function printRest(context: Context, box: Box, { stdoutAt, stderrAt }: Seen): Promise<void> {
  const { stdout, stderr } = await box.mainOutput({ signal: context.signal });
  if (stdout.length < keptBytes) await context.stdout.write(stdout.subarray(stdoutAt));
  if (stderr.length < keptBytes) await context.stderr.write(stderr.subarray(stderrAt));
}

/** What is kept of each output of a main command (docs/PROTOCOL.md, section 1). */
const keptBytes = 256 * 1024;

function lastLines(bytes: Buffer, tail: number | undefined): Buffer {
  if (tail === undefined) return bytes;
  let at = bytes.at(-1) === 10 ? bytes.length - 1 : bytes.length;
  for (let lines = 0; lines < tail && at > 0; lines += 1) {
    const end = bytes.lastIndexOf(10, at - 1);
    if (lines === tail - 1) return bytes.subarray(end + 1);
    at = end;
    if (end < 0) return bytes;
  }
  return tail === 0 ? Buffer.alloc(0) : bytes;
}

export const wait = createCommand({
  name: 'wait',
  summary: 'wait until the main commands of boxes have ended, and print their exit codes',
  args: { boxes: several('box', 'names or ids') },
  options: {},
  handler: (context, { boxes }) =>
    forEachTarget(context, boxes, async (target) => {
      const box = await requireBox(context, target);
      for (;;) {
        const { main, status } = await box.info({ signal: context.signal });
        if (main === null) throw noMain(box.id);
        if (main.exitCode !== null) return String(main.exitCode);
        if (main.signal !== null) return String(128 + main.signal);
        // Its machine was lost, and with it how the command ended.
        if (status !== 'running' && status !== 'paused') {
          throw new CryoboxError(
            'invalid_state',
            `the box is ${status}; how its main command ended is not known`,
            {
              hint: `Run \`cryobox start ${target}\` to run it again.`,
            },
          );
        }
        await delay(askAgainMs, undefined, { signal: context.signal });
      }
    }),
});
