import type { Writable } from 'node:stream';
import { errnoOf } from '../../errors.js';

/** Nobody reads stdout any more, as in `cryobox ... | head`: not an error, but a reason to end. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
}

/** An output of this process: writing waits until the bytes are gone, so a slow reader slows the writer. */
export class OutputStream {
  readonly #stream: Writable;

  constructor(stream: Writable) {
    this.#stream = stream;
    // Each write reports its own failure; without a listener Node would end the process.
    stream.on('error', () => undefined);
  }

  /** Writes bytes or text. @throws {OutputClosed} when the reader has gone. */
  async write(chunk: string | Uint8Array): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(chunk, (error) => {
        if (!error) resolve();
        else if (isGone(error)) reject(new OutputClosed('nobody reads the output'));
        else reject(error);
      });
    });
  }

  /** Writes a line. */
  async line(text: string): Promise<void> {
    await this.write(`${text}\n`);
  }

  /** Writes all of a byte source. */
  async pipe(source: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of source) await this.write(chunk);
  }
}

function isGone(error: Error): boolean {
  const errno = errnoOf(error);
  return errno === 'EPIPE' || errno === 'ERR_STREAM_DESTROYED';
}
