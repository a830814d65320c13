import { CryoboxError } from '../errors.js';

/** Longest line that is given; more without an end is no text. */
const maxLineCharacters = 16 * 1024 * 1024;

/** Bytes that `all` takes ahead of its reader; beyond it the command waits. */
const aheadBytes = 256 * 1024;

/** One output of a command: bytes, or lines of text. It can be read once, in one of the two ways. */
export class OutputStream implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this.#source[Symbol.asyncIterator]();
  }

  /** Lines as UTF-8, without their ends (LF, or CR LF of a terminal); the last one also when it has none. */
  async *lines(): AsyncGenerator<string> {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    let pieces: string[] = [];
    let characters = 0;
    const line = (end: string): string => {
      const whole = pieces.join('') + end;
      pieces = [];
      characters = 0;
      return whole.endsWith('\r') ? whole.slice(0, -1) : whole;
    };
    for await (const chunk of this.#source) {
      const parts = decoder.decode(chunk, { stream: true }).split('\n');
      const last = parts.pop() ?? '';
      for (const part of parts) yield line(part);
      pieces.push(last);
      characters += last.length;
      if (characters > maxLineCharacters) {
        throw new CryoboxError(
          'resource_exhausted',
          `a line of output has more than ${maxLineCharacters} characters`,
          { hint: 'Read the bytes of the stream instead of its lines.' },
        );
      }
    }
    const rest = line(decoder.decode());
    if (rest !== '') yield rest;
  }
}

/**
 * Several outputs as one, in the order in which their bytes come. All are read as soon as somebody reads this one; when
 * that stops, so do they. Fails with the first that fails.
 */
export function mergedOutput(sources: readonly AsyncIterable<Uint8Array>[]): OutputStream {
  return new OutputStream({ [Symbol.asyncIterator]: () => merge(sources) });
}

async function* merge(sources: readonly AsyncIterable<Uint8Array>[]): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const gone = new AbortController();
  let bytes = 0;
  let open = sources.length;
  let failure: { readonly error: unknown } | undefined;
  let wakeReader = (): void => undefined;
  const wakeWriters: (() => void)[] = [];
  const pump = async (source: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of source) {
      if (gone.signal.aborted) return;
      chunks.push(chunk);
      bytes += chunk.length;
      wakeReader();
      while (bytes >= aheadBytes && !gone.signal.aborted) {
        await new Promise<void>((resolve) => wakeWriters.push(resolve));
      }
      if (gone.signal.aborted) return;
    }
  };
  const goOn = (): void => {
    for (const wake of wakeWriters.splice(0)) wake();
  };
  for (const source of sources) {
    pump(source)
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .finally(() => {
        open -= 1;
        wakeReader();
      });
  }
  try {
    for (;;) {
      const chunk = chunks.shift();
      if (chunk) {
        bytes -= chunk.length;
        if (bytes < aheadBytes) goOn();
        yield chunk;
      } else if (failure) throw failure.error;
      else if (open === 0) return;
      else {
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
      }
    }
  } finally {
    gone.abort();
    goOn();
  }
}
