import type { Execution, ExitStatus, TerminalSize } from '../api/index.js';
import { runProcess } from '../base/process/index.js';
import { isCryoboxError } from '../errors.js';
import type { Context, Streams } from './context.js';
import { exitCodes } from './failure.js';

/** How a command is attached to this process. */
export interface SessionOptions {
  /** Passes our stdin on. */
  readonly interactive: boolean;
  readonly tty: boolean;
}

/** The size of our terminal, or the customary one where there is none or it does not know (a serial line says 0). */
export function terminalSize({ stdout }: Pick<Streams, 'stdout'>): TerminalSize {
  return { cols: stdout.columns || 80, rows: stdout.rows || 24 };
}

/**
 * Attaches an execution to our streams until it ends, and gives the exit code for it: its own, 128 plus the signal that
 * ended it, or 124 after its time limit. Ctrl-C goes to the command; a second one kills it.
 */
export async function runSession(
  context: Context,
  execution: Execution,
  options: SessionOptions,
): Promise<number> {
  const { streams, interrupts } = context;
  const restoreTerminal = options.tty
    ? await followTerminal(streams, execution, options.interactive)
    : () => undefined;
  const stopStdin = options.interactive ? passStdin(streams, execution) : () => undefined;
  const kill = (): void => {
    execution.kill().catch(() => undefined);
  };
  context.signal.addEventListener('abort', kill, { once: true });
  try {
    const status = await interrupts.forward(
      (name) => {
        execution.signal(name).catch(() => undefined);
      },
      async () => {
        const [ended] = await Promise.all([
          execution.wait(),
          context.stdout.pipe(execution.stdout),
          context.stderr.pipe(execution.stderr),
        ]);
        return ended;
      },
    );
    return interrupts.exitCode ?? exitCodeOfStatus(status);
  } catch (error) {
    // It goes on without a reader, as it did when its output was lost; else nobody is left to read what it writes.
    if (!isCryoboxError(error, 'output_lost')) await execution.kill().catch(() => undefined);
    throw error;
  } finally {
    context.signal.removeEventListener('abort', kill);
    stopStdin();
    restoreTerminal();
  }
}

/** The exit code a shell would report for a command that ended like this. */
export function exitCodeOfStatus(status: ExitStatus): number {
  if (status.timedOut) return exitCodes.timedOut;
  return status.signal === null ? (status.exitCode ?? 0) : 128 + status.signal;
}

/** Passes stdin on, waiting for the command to take it. Returns what stops it. */
function passStdin({ stdin }: Streams, execution: Execution): () => void {
  const target = execution.stdin;
  if (!target) return () => undefined;
  const pump = async () => {
    for await (const chunk of stdin) await target.write(chunk);
    await target.end();
  };
  // A command that closed its stdin, or has ended, takes no more: how it ended is what counts.
  pump().catch(() => undefined);
  return () => {
    stdin.destroy();
  };
}

/**
 * Raw mode, so that every key goes to the box's terminal and what that writes is drawn as it is, and its size. Returns what
 * restores ours.
 */
async function followTerminal(
  { stdin, stdout }: Streams,
  execution: Execution,
  interactive: boolean,
): Promise<() => void> {
  const raw = interactive && stdin.isTTY === true;
  if (raw) {
    stdin.setRawMode?.(true);
    await leaveOutputAlone(stdin.fd ?? 0);
  }
  const resize = (): void => {
    execution.resize(terminalSize({ stdout })).catch(() => undefined);
  };
  stdout.on('resize', resize);
  return () => {
    stdout.off('resize', resize);
    // Restores all that the terminal was set to, also when this process ends without coming here.
    if (raw) stdin.setRawMode?.(false);
  };
}

/**
 * Node's raw mode still makes CR LF of every LF, which the terminal in the box has done already or was told not to. Node
 * cannot set that; where stty(1) is missing it stays.
 */
async function leaveOutputAlone(fd: number): Promise<void> {
  const terminal = `/proc/${process.pid}/fd/${fd}`;
  await runProcess('stty', { args: ['-F', terminal, '-opost'], timeoutMs: 5000 }).catch(() => undefined);
}
