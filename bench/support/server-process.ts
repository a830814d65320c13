import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What a server's process tells its parent. */
export type FromServer =
  | { readonly type: 'ready'; readonly url: string; readonly apiKey: string }
  | { readonly type: 'usage'; readonly heapBytes: number; readonly cpuMs: number };

/** Where a server is and what opens it. */
export interface ServerAddress {
  readonly url: string;
  readonly apiKey: string;
}

/** Time for a server to open its home. */
const readyMs = 30_000;

async function next<T extends FromServer['type']>(
  child: ChildProcess,
  type: T,
): Promise<Extract<FromServer, { type: T }>> {
  const [message] = (await once(child, 'message', { signal: AbortSignal.timeout(readyMs) })) as [FromServer];
  if (message.type === type) return message as Extract<FromServer, { type: T }>;
  throw new Error(`expected ${type} of the server, got ${message.type}`);
}

/** A program of this folder in a process of its own, which ends when its parent lets go of it. */
export function forkProgram(name: string, args: readonly string[]): ChildProcess {
  return fork(fileURLToPath(new URL(`./${name}`, import.meta.url)), [...args]);
}

/** Ends such a process in order. */
export async function endProgram(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.disconnect();
  await ended;
}

/** A server over TCP in a process of its own, with a key, over a home. */
export class ServerProcess {
  readonly address: ServerAddress;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, address: ServerAddress) {
    this.#child = child;
    this.address = address;
  }

  /** Resolves when it answers. */
  static async start(home: string): Promise<ServerProcess> {
    const child = forkProgram('server-main.ts', [home]);
    const { url, apiKey } = await next(child, 'ready');
    return new ServerProcess(child, { url, apiKey });
  }

  /** Its heap after a collection, and the processor time it has taken so far. */
  async usage(): Promise<{ readonly heapMiB: number; readonly cpuMs: number }> {
    const answer = next(this.#child, 'usage');
    this.#child.send('usage');
    const { heapBytes, cpuMs } = await answer;
    return { heapMiB: heapBytes / 1024 ** 2, cpuMs };
  }

  /** Lets the server close; its machines go on. */
  async end(): Promise<void> {
    await endProgram(this.#child);
  }
}
