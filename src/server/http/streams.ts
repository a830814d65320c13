import { Readable } from 'node:stream';
import type { ByteSource, Progress } from '../../api/index.js';
import { Turns } from '../../base/turns.js';
import { CryoboxError } from '../../errors.js';
import { progressToJson } from '../../wire/runtime.js';
import type { ErrorWriter } from './errors.js';

/** Bytes waiting in an answer's stream until the client takes them. */
const answerBufferBytes = 256 * 1024;

/** A byte source as a Node stream. Destroying it, as a closed connection does, ends the source. */
export function toReadable(source: ByteSource): Readable {
  return Readable.from(source, { objectMode: false, highWaterMark: answerBufferBytes });
}

/**
 * The same bytes after the first piece has come, so that a source that fails at once is still answered with its
 * error, not with a broken stream.
 */
export async function peek(source: ByteSource): Promise<ByteSource> {
  const iterator = source[Symbol.asyncIterator]();
  let next = await iterator.next();
  async function* rest(): AsyncGenerator<Uint8Array> {
    try {
      while (!next.done) {
        yield next.value;
        next = await iterator.next();
      }
    } finally {
      if (!next.done) await iterator.return?.();
    }
  }
  return rest();
}

/**
 * The bytes of an upload. Fails with `timeout` when the client is asked for more and sends nothing for `idleMs`: a
 * client that went silent must not hold a box's operation. The time the box takes to store bytes does not count.
 */
export async function* upload(source: Readable, idleMs: number): ByteSourceGenerator {
  const iterator: AsyncIterator<Buffer> = source[Symbol.asyncIterator]();
  for (;;) {
    const coming = iterator.next();
    let timer: NodeJS.Timeout | undefined;
    // The connection is not destroyed: the client is to hear why.
    const silent = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        coming.catch(() => undefined);
        reject(new CryoboxError('timeout', `The client sent nothing for ${idleMs} ms of an upload`));
      }, idleMs);
    });
    try {
      const next = await Promise.race([coming, silent]);
      if (next.done) return;
      clearTimeout(timer);
      yield next.value;
    } finally {
      clearTimeout(timer);
    }
  }
}

type ByteSourceGenerator = AsyncGenerator<Uint8Array>;

/** Items of a list that become text at once: about a millisecond. */
const itemsPerPiece = 500;

/** A long list as JSON, in pieces, with turns for others in between. */
export async function* jsonList<T>(items: readonly T[], toJson: (item: T) => unknown): ByteSourceGenerator {
  const turns = new Turns();
  let before = '[';
  for (let at = 0; at < items.length; at += itemsPerPiece) {
    const piece = items.slice(at, at + itemsPerPiece).map((item) => JSON.stringify(toJson(item)));
    yield Buffer.from(before + piece.join(','));
    before = ',';
    await turns.chunk();
  }
  yield Buffer.from(items.length === 0 ? '[]' : ']');
}

const line = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value)}\n`);

/** Progress lines waiting for a slow client; older ones are dropped, only the newest matters. */
const maxWaitingProgress = 64;

/**
 * A long operation as lines of JSON: `progress` lines while it runs, then one `result` or `error` line. The answer
 * begins before the outcome is known, so its status is always 200.
 */
export async function* progressLines(
  run: (onProgress: (progress: Progress) => void) => Promise<unknown>,
  { errors, requestId }: { readonly errors: ErrorWriter; readonly requestId: string },
): ByteSourceGenerator {
  const waiting: Progress[] = [];
  let wake = (): void => undefined;
  let ended = false;
  const outcome = run((progress) => {
    waiting.push(progress);
    if (waiting.length > maxWaitingProgress) waiting.shift();
    wake();
  })
    .then(
      (result) => ({ type: 'result', result }),
      (error: unknown) => ({ type: 'error', error: errors.json(error, requestId) }),
    )
    .finally(() => {
      ended = true;
      wake();
    });
  while (!ended) {
    for (const progress of waiting.splice(0)) yield line(progressToJson(progress));
    if (ended) break;
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (ended || waiting.length > 0) resolve();
    });
  }
  for (const progress of waiting.splice(0)) yield line(progressToJson(progress));
  yield line(await outcome);
}
