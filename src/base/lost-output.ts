import { CryoboxError, isCryoboxError } from '../errors.js';

/** How a command ended. */
interface Exit {
  readonly exitCode: number | null;
  readonly signal: number | null;
  readonly timedOut: boolean;
}

/** What is asked of a command whose output has a hole. */
interface Holed {
  readonly id: string;
  readonly boxId: string;
  readonly droppedBytes: { readonly stdout: number; readonly stderr: number };
  wait(): Promise<Exit>;
}

/** `output_lost`: bytes in the middle of a command's output are gone, while the command went on. */
export function outputLost(execution: Omit<Holed, 'wait'>, exit?: Exit): CryoboxError {
  const { id, boxId, droppedBytes } = execution;
  const lost = (['stdout', 'stderr'] as const)
    .filter((channel) => droppedBytes[channel] > 0)
    .map((channel) => `${droppedBytes[channel]} bytes of ${channel}`)
    .join(' and ');
  return new CryoboxError(
    'output_lost',
    `${lost} were lost while nobody was connected to the command; it went on without a reader`,
    {
      hint: `\`cryobox attach ${boxId} ${id}\` shows the last of it, until five minutes after its end. To have all of it, run the command again with its output in a file of the box.`,
      details: {
        box: boxId,
        execution: id,
        droppedStdout: droppedBytes.stdout,
        droppedStderr: droppedBytes.stderr,
        ...(exit && { exitCode: exit.exitCode, signal: exit.signal, timedOut: exit.timedOut }),
      },
    },
  );
}

/**
 * What a caller is told who waits for a whole command and met `error`. A hole in its output is no reason to end the
 * command: its end is waited for, and told in `details`.
 */
export async function atItsEnd(error: unknown, execution: Holed): Promise<unknown> {
  return isCryoboxError(error, 'output_lost') ? outputLost(execution, await execution.wait()) : error;
}
