import { spawn } from 'node:child_process';
import { pipeline } from 'node:stream/promises';

/** What is kept of a program's own messages. */
const maxComplaintChars = 500;

/**
 * Runs bytes through a program. Fails with the source's own error when the source fails, with ENOENT when the program is
 * not installed, else with what the program wrote to its error output. Ended early, it ends the program.
 */
export async function* filterThrough(
  command: string,
  args: readonly string[],
  source: AsyncIterable<Buffer>,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], signal });
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => {
    complaint = (complaint + text.toString('utf8')).slice(0, maxComplaintChars);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  ended.catch(() => undefined);
  let sourceFailure: unknown;
  const watched = watch(source, (error) => {
    sourceFailure = error;
  });
  // What fails here shows as a failure of the source or as the exit code.
  pipeline(watched, child.stdin).catch(() => undefined);
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const code = await ended;
    if (sourceFailure !== undefined) throw sourceFailure;
    if (code !== 0) throw new Error(complaint.trim() || `${command} ended with ${code}`);
  } finally {
    child.kill('SIGKILL');
  }
}

/** Passes a source on and tells of its failure. */
async function* watch(
  source: AsyncIterable<Buffer>,
  onFailure: (error: unknown) => void,
): AsyncGenerator<Buffer> {
  try {
    yield* source;
  } catch (error) {
    onFailure(error);
    throw error;
  }
}
