import type {
  ByteSource,
  CallOptions,
  Execution,
  ExitStatus,
  StdinWriter,
  TerminalSize,
} from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import type { GuestExecution, GuestWritable } from '../../guest/index.js';
import { checkTerminal } from './request.js';

/** A command in a box of the engine, with its streams attached. */
export class EngineExecution implements Execution {
  readonly id: string;
  readonly boxId: string;
  readonly stdin: StdinWriter | null;
  readonly stdout: ByteSource;
  readonly stderr: ByteSource;
  readonly droppedBytes: { readonly stdout: number; readonly stderr: number };
  readonly #guest: GuestExecution;
  #ended = false;

  constructor(boxId: string, guest: GuestExecution) {
    this.id = guest.id;
    this.boxId = boxId;
    this.#guest = guest;
    this.stdin = guest.stdin ? stdinWriter(guest.stdin) : null;
    this.stdout = guest.stdout;
    this.stderr = guest.stderr ?? nothing();
    this.droppedBytes = { stdout: guest.attached.stdoutDropped, stderr: guest.attached.stderrDropped };
    const end = (): void => {
      this.#ended = true;
    };
    guest.exit.then(end, end);
  }

  async wait(options: CallOptions = {}): Promise<ExitStatus> {
    const exit = await abortable(this.#guest.exit, options.signal);
    return { exitCode: exit.code, signal: exit.signal, timedOut: exit.timedOut, durationMs: exit.durationMs };
  }

  async signal(signal: number | string): Promise<void> {
    await this.#guest.signal(signal);
  }

  async kill(): Promise<void> {
    await this.#guest.kill();
  }

  async resize(size: TerminalSize): Promise<void> {
    checkTerminal(size);
    await this.#guest.resize(size);
  }

  async detach(): Promise<void> {
    if (!this.#ended) await this.#guest.detach();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** Promises over a stream: each resolves when the guest has taken the bytes. */
function stdinWriter(stream: GuestWritable): StdinWriter {
  // A failure reaches whoever writes; nobody else listens.
  stream.on('error', () => undefined);
  return {
    write: (chunk) =>
      new Promise((resolve, reject) => {
        stream.write(chunk, (error) => (error ? reject(error) : resolve()));
      }),
    end: () =>
      new Promise((resolve, reject) => {
        if (stream.writableEnded || stream.destroyed) resolve();
        else stream.end((error?: Error | null) => (error ? reject(error) : resolve()));
      }),
  };
}
