import { CryoboxError } from '../../errors.js';
import { type ProcessEnd, type StartOptions, startProcess } from './start.js';

/** How a process is run to its end. */
export interface RunOptions extends Omit<StartOptions, 'stdin' | 'stdout' | 'channel' | 'stderr'> {
  /** A program that has not ended by then is killed. */
  readonly timeoutMs: number;
  /** What it reads. @default nothing */
  readonly input?: string | Uint8Array;
  /** A program that writes more is killed. @default 1 MiB */
  readonly maxOutputBytes?: number;
}

/** What a process wrote, and how it ended. */
export interface ProcessResult extends ProcessEnd {
  readonly stdout: Buffer;
  /** Whether it was killed because it wrote more than `maxOutputBytes`; what it wrote until then is there. */
  readonly truncated: boolean;
}

/** What programs that are asked a question answer fits many times. */
const defaultMaxOutputBytes = 1024 * 1024;

/**
 * Runs a program to its end and returns what it wrote, whatever its exit code. Throws what {@link startProcess} throws,
 * and `timeout` when it took longer than it may.
 */
export async function runProcess(command: string, options: RunOptions): Promise<ProcessResult> {
  const { input, maxOutputBytes = defaultMaxOutputBytes, ...more } = options;
  await using child = await startProcess(command, {
    ...more,
    stdin: input === undefined ? 'ignore' : 'pipe',
    stdout: 'pipe',
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  child.stdout.on('error', () => undefined);
  child.stdout.on('data', (chunk: Buffer) => {
    const room = maxOutputBytes - bytes;
    bytes += chunk.length;
    if (room > 0) chunks.push(chunk.subarray(0, room));
    if (bytes > maxOutputBytes) child.kill();
  });
  if (input !== undefined) child.stdin.end(input);
  const end = await child.closed;
  if (end.timedOut) {
    throw new CryoboxError('timeout', `${command} did not end within ${options.timeoutMs} ms`);
  }
  if (options.signal?.aborted) {
    throw new CryoboxError('cancelled', `${command} was cancelled`, { cause: options.signal.reason });
  }
  return { ...end, stdout: Buffer.concat(chunks), truncated: bytes > maxOutputBytes };
}
