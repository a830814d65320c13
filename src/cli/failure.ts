import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { printable } from './output/printable.js';
import { OutputClosed } from './output/stream.js';

/** Exit codes of our own, beside those of commands in a box; the same as those of container tools. */
export const exitCodes = {
  /** A check found problems: `doctor`, `verify`. */
  problemsFound: 1,
  /** The command ran into its time limit, as timeout(1) says it. */
  timedOut: 124,
  /** Cryobox failed, not the command. */
  failed: 125,
  notExecutable: 126,
  notFound: 127,
  /** Nobody read the output: 128 + SIGPIPE. */
  outputClosed: 141,
} as const;

/** The exit code for something thrown. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof OutputClosed) return exitCodes.outputClosed;
  if (isCryoboxError(error, 'command_not_found')) return exitCodes.notFound;
  if (isCryoboxError(error, 'command_not_executable')) return exitCodes.notExecutable;
  return exitCodes.failed;
}

/** What is said on stderr about something thrown: message and next step; with CRYOBOX_DEBUG the stack too. */
export function describeFailure(error: unknown): string {
  if (error instanceof OutputClosed) return '';
  const typed = isCryoboxError(error) ? error : new CryoboxError('internal', messageOf(error));
  const lines = [`error: ${printable(typed.message, { lines: true })}`];
  if (typed.hint) lines.push(`hint: ${printable(typed.hint, { lines: true })}`);
  if (process.env.CRYOBOX_DEBUG && error instanceof Error && error.stack) lines.push(error.stack);
  return `${lines.join('\n')}\n`;
}
