import type { ServerChannel } from 'ssh2';
import { abortable } from '../base/abort.js';
import { Mutex } from '../base/mutex.js';

/** What ssh2 1.17 keeps of a write that waits for room. */
interface Waiting {
  _chunk: unknown;
  _chunkcb: unknown;
  _chunkErr: unknown;
  _chunkcbErr: unknown;
}

/** Writes to a channel, no faster than its client takes it. Once that is gone, what is written is dropped. */
export class ChannelWriter {
  readonly #channel: ServerChannel;
  readonly #gone: AbortSignal;
  readonly #turn = new Mutex();

  /** `gone`: aborted when the channel is closed. */
  constructor(channel: ServerChannel, gone: AbortSignal) {
    this.#channel = channel;
    this.#gone = gone;
  }

  /** Resolves when the client has room for more. */
  async write(output: 'stdout' | 'stderr', chunk: Uint8Array): Promise<void> {
    await this.#turn.run(async () => {
      if (this.#gone.aborted) return;
      const target = output === 'stdout' ? this.#channel : this.#channel.stderr;
      const written = new Promise<void>((resolve) => {
        target.write(chunk, () => resolve());
      });
      await abortable(written, this.#gone).catch(() => undefined);
      // ssh2 forgets neither of the two, and would send what waited on one output again when the other waits.
      const waiting = this.#channel as unknown as Waiting;
      waiting._chunk = waiting._chunkcb = waiting._chunkErr = waiting._chunkcbErr = undefined;
    });
  }

  /** Writes all of a source, which is read to its end also when nobody takes it any more. */
  async pipe(output: 'stdout' | 'stderr', source: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of source) await this.write(output, chunk);
  }
}

/** Reads a channel. Leaving the loop leaves the channel open. */
export function chunksOf(channel: ServerChannel): AsyncIterable<Buffer> {
  return {
    [Symbol.asyncIterator]: () => channel.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>,
  };
}
