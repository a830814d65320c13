import type { ExecOptions, ExecResult } from '../api/index.js';
import { collectOutput } from '../base/collect-output.js';
import { RemoteExecution } from './execution.js';
import type { Transport } from './transport.js';

/** Writes all of stdin. A command that ends or closes its stdin before takes no more, which is no failure. */
async function feed(execution: RemoteExecution, stdin: NonNullable<ExecOptions['stdin']>): Promise<void> {
  const writer = execution.stdin;
  if (!writer) return;
  if (typeof stdin === 'string' || stdin instanceof Uint8Array) await writer.write(stdin);
  else for await (const chunk of stdin) await writer.write(chunk);
  await writer.end();
}

/** `Box.exec` over one connection: the command ends when the connection or the call does. */
export async function runCommand(
  transport: Transport,
  boxPath: string,
  argv: readonly string[],
  options: ExecOptions,
): Promise<ExecResult> {
  const { signal, stdin } = options;
  const start = {
    kind: 'run',
    argv,
    options: { ...options, stdin: undefined },
    stdin: stdin !== undefined,
    killOnDisconnect: true,
  } as const;
  const execution = await RemoteExecution.open(transport, boxPath, start, signal);
  const abort = (): void => execution.abandon();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    if (stdin !== undefined) feed(execution, stdin).catch(() => undefined);
    const [stdout, stderr, exit] = await Promise.all([
      collectOutput('stdout', execution.stdout),
      collectOutput('stderr', execution.stderr),
      execution.wait(),
    ]);
    return { ...exit, stdout, stderr };
  } catch (error) {
    execution.abandon();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
