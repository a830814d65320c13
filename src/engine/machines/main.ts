import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type MainOutput, mainExecution } from '../../api/index.js';
import { ifExists, writeFileDurably } from '../../base/files.js';
import { inBackground } from '../../base/in-background.js';
import { within } from '../../base/within.js';
import { isCryoboxError, messageOf } from '../../errors.js';
import type { AgentClient, GuestExecutionInfo } from '../../guest/index.js';
import type { BoxRow } from '../../store/index.js';
import { execRequest } from '../record/request.js';
import { configOf, updateBox } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import type { LiveBox, MainState } from './live.js';

/** A guest hands over 256 KiB at once; one that does not is not waited for. */
const outputTimeoutMs = 5_000;
/** A process that was killed has ended by then, also on a busy host. */
const killTimeoutMs = 2_000;
const outputs = ['stdout', 'stderr'] as const;

/** Starts the main command of a box, if it has one, and lets it run unattended. Throws what a command's start throws. */
export async function startMain(agent: AgentClient, row: BoxRow): Promise<void> {
  const config = configOf(row);
  if (!config.main) return;
  const { argv, tty } = config.main;
  const request = execRequest(argv, config, { tty });
  const started = await agent.executions.start({ id: mainExecution, ...request, stdin: true });
  await started.detach();
}

/**
 * Notes how the main command of a machine ends, and whether it has: a memory may hold one that runs, or one that ended.
 * Never fails.
 */
export async function followMain(ctx: MachinesContext, live: LiveBox, row: BoxRow): Promise<void> {
  const { main } = configOf(row);
  if (!main) return;
  live.commands.knows(mainExecution, main.argv);
  live.main = newMain();
  live.agent.executions.onEnded((exec, exit) => {
    if (exec === mainExecution) noteEnd(ctx, live, exit);
  });
  try {
    const info = await live.agent.executions.get(mainExecution, { timeoutMs: outputTimeoutMs });
    if (info.state === 'ended') noteEnd(ctx, live, info);
    else if (row.main_exit !== null) await updateBox(ctx, row.id, { main_exit: null });
  } catch (error) {
    // One that was given to a box from a template begins with the next start.
    if (isCryoboxError(error, 'not_found')) live.main = undefined;
    else ctx.logger.warn('cannot see the main command', { box: row.id, reason: messageOf(error) });
  }
}

type Exit = Pick<GuestExecutionInfo, 'code' | 'signal'>;

/** A main command that runs. */
function newMain(): MainState {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { ended, end, hasEnded: false, recorded: Promise.resolve() };
}

function noteEnd(ctx: MachinesContext, live: LiveBox, { code, signal }: Exit): void {
  const { main, boxId } = live;
  if (!main || main.hasEnded) return;
  main.hasEnded = true;
  const main_exit = JSON.stringify({ exitCode: code, signal });
  main.recorded = updateBox(ctx, boxId, { main_exit });
  inBackground(main.recorded, `record the end of the main command of box ${boxId}`, ctx.logger);
  main.end();
}

/**
 * Ends the main command of a box that stops: first by SIGTERM, after a while by SIGKILL; then keeps what it wrote. Never
 * fails, and waits no longer than asked.
 */
export async function endMain(ctx: MachinesContext, live: LiveBox, graceMs: number): Promise<void> {
  const { main, agent } = live;
  if (!main) return;
  try {
    if (!main.hasEnded && graceMs > 0) {
      await agent.executions.signal(mainExecution, 'SIGTERM', { timeoutMs: graceMs });
      await within(main.ended, graceMs);
    }
    if (!main.hasEnded) {
      await agent.executions.kill(mainExecution, { timeoutMs: killTimeoutMs });
      await within(main.ended, killTimeoutMs);
    }
    await main.recorded;
  } catch (error) {
    ctx.logger.warn('cannot end the main command', { box: live.boxId, reason: messageOf(error) });
  }
  await keepMainOutput(ctx, live);
}

function outputPath(ctx: MachinesContext, boxId: string, output: (typeof outputs)[number]): string {
  return join(ctx.paths.boxes, boxId, `main.${output}`);
}

/** Keeps what the main command wrote with its box, for when there is no machine. Never fails. */
export async function keepMainOutput(ctx: MachinesContext, live: LiveBox): Promise<void> {
  if (!live.main) return;
  try {
    const written = await readFromGuest(live);
    await mkdir(join(ctx.paths.boxes, live.boxId), { recursive: true, mode: 0o700 });
    for (const output of outputs) {
      await writeFileDurably(outputPath(ctx, live.boxId, output), written[output]);
    }
  } catch (error) {
    ctx.logger.warn('cannot keep the output of a main command', {
      box: live.boxId,
      reason: messageOf(error),
    });
  }
}

async function readFromGuest({ agent }: LiveBox): Promise<MainOutput> {
  const [stdout, stderr] = await Promise.all(
    outputs.map((output) => agent.executions.output(mainExecution, output, { timeoutMs: outputTimeoutMs })),
  );
  return { stdout: stdout?.bytes ?? Buffer.alloc(0), stderr: stderr?.bytes ?? Buffer.alloc(0) };
}

/** What the main command of a box wrote: from its guest, else what was kept. */
export async function readMainOutput(ctx: MachinesContext, boxId: string): Promise<MainOutput> {
  const live = ctx.live.get(boxId);
  if (live?.main) return await readFromGuest(live);
  const [stdout, stderr] = await Promise.all(
    outputs.map((output) => ifExists(readFile(outputPath(ctx, boxId, output)))),
  );
  return { stdout: stdout ?? Buffer.alloc(0), stderr: stderr ?? Buffer.alloc(0) };
}
