import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { CryoboxError, errnoOf, isCryoboxError, messageOf } from '../../errors.js';
import { filterThrough } from './filter.js';

/** Output of a decompressor at a time: fewer, larger chunks cost less than Node's 16 KiB. */
const chunkBytes = 256 * 1024;

const magics: readonly (readonly [name: string, bytes: readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  // What pzstd puts before each of its frames, to be skipped (RFC 8878, section 3.1.2); the lowest of 16 forms.
  ['zstd', [0x50, 0x2a, 0x4d, 0x18]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
];

/**
 * The content of a layer, decompressed. What it is is told by its first bytes, because media types are often wrong:
 * gzip (RFC 1952), zstd (RFC 8878) or plain. Throws `image_refused` for bzip2 and xz, `image_invalid` for broken data,
 * `config_error` when zstd is not installed, `resource_exhausted` when it cannot be started.
 */
export async function* decompress(
  source: AsyncIterable<Buffer>,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]();
  const head = await readHead(chunks);
  const kind = magics.find(([, magic]) => magic.every((byte, index) => head[index] === byte))?.[0];
  if (kind === undefined) yield* joined(head, chunks);
  else if (kind === 'gzip') yield* gunzip(joined(head, chunks));
  else if (kind === 'zstd') yield* unzstd(head, chunks, signal);
  else
    throw new CryoboxError(
      'image_refused',
      `the data is compressed with ${kind}; gzip, zstd and plain tar are unpacked`,
    );
}

/** Codes of a program that the host did not start. */
const notStarted = ['config_error', 'resource_exhausted', 'cancelled'] as const;

/** The longest magic has six bytes; the first chunk of a file or socket nearly always has them. */
async function readHead(chunks: AsyncIterator<Buffer>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < 6) {
    const next = await chunks.next();
    if (next.done) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  return head;
}

async function* joined(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield head;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

async function* gunzip(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const stream = createGunzip({ chunkSize: chunkBytes });
  const feeding = pipeline(source, stream);
  // Its failure also ends the stream, where it is reported.
  feeding.catch(() => undefined);
  try {
    yield* stream as AsyncIterable<Buffer>;
  } catch (error) {
    throw broken('gzip', error);
  } finally {
    stream.destroy();
  }
}

async function* unzstd(
  head: Buffer,
  rest: AsyncIterator<Buffer>,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  try {
    yield* filterThrough('zstd', ['--decompress', '--stdout', '--quiet'], joined(head, rest), signal);
  } catch (error) {
    // A program that was not started has left its source open.
    if (notStarted.some((code) => isCryoboxError(error, code))) await rest.return?.();
    throw broken('zstd', error);
  }
}

/** Node's codes of a decompressor that met bad data begin so; everything else came from the source or the host. */
function broken(kind: string, error: unknown): unknown {
  if (isCryoboxError(error)) return error;
  const errno = errnoOf(error);
  if (errno !== undefined && !errno.startsWith('Z_')) return error;
  return new CryoboxError('image_invalid', `the data is not valid ${kind}: ${messageOf(error)}`, {
    cause: error,
  });
}
