import type { ByteSource, ExecOptions, ExecResult, Execution } from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { CryoboxError, errnoOf, isCryoboxError } from '../../errors.js';

/** What `exec` holds of one stream at most: more belongs into a file or a streaming execution. */
const maxOutputBytes = 64 * 1024 * 1024;

/** Waits for an execution and all its output. When that fails, the command is killed. */
export async function collect(
  execution: Execution,
  stdin: ExecOptions['stdin'],
  signal: AbortSignal | undefined,
): Promise<ExecResult> {
  try {
    const work = Promise.all([
      execution.wait(),
      readAll('stdout', execution.stdout),
      readAll('stderr', execution.stderr),
      feed(execution, stdin),
    ]);
    const [exit, stdout, stderr] = await abortable(work, signal);
    return { ...exit, stdout, stderr };
  } catch (error) {
    await execution.kill().catch(() => undefined);
    throw error;
  }
}

async function readAll(name: string, source: ByteSource): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > maxOutputBytes) {
      throw new CryoboxError(
        'resource_exhausted',
        `the command wrote more than ${maxOutputBytes} bytes to ${name}`,
        {
          hint: 'Use startExec and read the stream, or write to a file and copy it out.',
        },
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function feed(execution: Execution, stdin: ExecOptions['stdin']): Promise<void> {
  const writer = execution.stdin;
  if (!writer || stdin === undefined) return;
  try {
    if (typeof stdin === 'string' || stdin instanceof Uint8Array) await writer.write(stdin);
    else for await (const chunk of stdin) await writer.write(chunk);
    await writer.end();
  } catch (error) {
    // A command need not read what it is given, and may end meanwhile.
    if (isCryoboxError(error, 'stopped') || errnoOf(error) === 'ERR_STREAM_DESTROYED') return;
    throw error;
  }
}
