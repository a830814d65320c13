import type { Box } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import type { Context } from './context.js';
import { describeFailure, exitCodes } from './failure.js';
import { OutputClosed } from './output/stream.js';

/** The box a user named. @throws {CryoboxError} `not_found` */
export async function requireBox(context: Context, idOrName: string): Promise<Box> {
  const runtime = await context.runtime();
  const box = await runtime.get(idOrName, { signal: context.signal });
  return found(box, 'box', idOrName);
}

/** Throws `invalid_state` unless a box runs: for what looks at it, and must not start it. */
export async function requireRunning(context: Context, box: Box): Promise<void> {
  const { status } = await box.info({ signal: context.signal });
  if (status === 'running') return;
  const name = box.name ?? box.id;
  throw new CryoboxError('invalid_state', `the box ${name} is ${status}, not running`, {
    hint:
      status === 'paused' ? `Run \`cryobox resume ${name}\` first.` : `Run \`cryobox start ${name}\` first.`,
  });
}

/** The id of an execution of a box, of which a beginning that only one has is enough. */
export async function executionIdOf(context: Context, box: Box, text: string): Promise<string> {
  const executions = await box.executions.list({ signal: context.signal });
  const begun = executions.filter(({ id }) => id.startsWith(text));
  // What nobody knows is refused by who is asked for it.
  return (begun.length === 1 && begun[0]?.id) || text;
}

/** What was found. @throws {CryoboxError} `not_found` when that is null */
export function found<T>(thing: T | null, kind: string, name: string): T {
  if (thing === null) throw new CryoboxError('not_found', `No ${kind} ${JSON.stringify(name)}`);
  return thing;
}

/**
 * Does the same to each of several things: a failure is said on stderr and does not stop the others; each success is
 * printed as a line of what `task` returns, if anything. Resolves with the exit code.
 */
export async function forEachTarget(
  context: Context,
  targets: readonly string[],
  task: (target: string) => Promise<string | undefined>,
): Promise<number> {
  let exitCode = 0;
  for (const target of targets) {
    context.signal.throwIfAborted();
    try {
      const line = await task(target);
      if (line !== undefined) await context.stdout.line(line);
    } catch (error) {
      if (context.signal.aborted || error instanceof OutputClosed) throw error;
      exitCode = exitCodes.failed;
      await context.stderr.write(describeFailure(error));
    }
  }
  return exitCode;
}
