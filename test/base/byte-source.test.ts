import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { takeBytes, withBytes } from '../../src/base/byte-source.js';

const text = 'content';
const bytes = new TextEncoder().encode(text);
const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
shared.set(bytes);
const wide = new Uint16Array([0x6f63, 0x746e, 0x6e65]);
async function* pieces(): AsyncGenerator<string | Uint8Array> {
  yield 'con';
  yield Buffer.from('tent');
}
const encoded = (encoding: BufferEncoding): Readable =>
  new Readable({ read() {} }).setEncoding(encoding).wrap(Readable.from([bytes], { objectMode: false }));

describe('bytes are taken', () => {
  it.each<[string, () => unknown, string?]>([
    ['a string', () => text],
    ['a Buffer', () => Buffer.from(text)],
    ['a Uint8Array', () => bytes],
    ['an ArrayBuffer', () => bytes.buffer.slice(0)],
    ['a SharedArrayBuffer', () => shared.buffer],
    ['a view of shared memory', () => shared],
    ['a DataView of a part', () => new DataView(bytes.buffer, 1, 2), 'on'],
    ['a Uint16Array', () => wide, 'conten'],
    ['a Blob', () => new Blob([text])],
    ['a File', () => new File([text], 'name')],
    ['the body of a Response', () => new Response(text).body],
    ['a web stream of strings', () => ReadableStream.from(['con', 'tent'])],
    ['a Node stream', () => Readable.from([bytes], { objectMode: false })],
    ['a Node stream of text', () => encoded('hex')],
    ['a generator', () => pieces()],
    ['a Set', () => new Set(['con', bytes.slice(3)])],
    ['an empty string', () => '', ''],
    ['nothing at all', () => [], ''],
  ])('from %s', async (_name, input, expected = text) => {
    expect((await buffer(takeBytes(input(), 'content'))).toString()).toBe(expected);
  });
});

async function usedUp(stream: Readable): Promise<Readable> {
  await buffer(stream);
  return stream;
}

describe('refused at once is', () => {
  const failed = new PassThrough();
  failed.on('error', () => undefined);
  failed.destroy(new Error('broken'));
  const read = new Response(text);
  const body = read.body;
  const locked = new Response(text).body;
  locked?.getReader();
  it.each<[string, () => unknown, string]>([
    ['undefined', () => undefined, 'is undefined'],
    ['null', () => null, 'is null'],
    ['a number', () => 5, 'is a number'],
    ['a plain object', () => ({ a: 1 }), 'is an object (Object)'],
    ['a Promise', () => Promise.resolve(text), 'awaited'],
    ['a function', () => pieces, 'is a function'],
    ['a Response', () => new Response(text), 'is an object (Response)'],
    ['an array of numbers', () => [1, 2], 'gives a number'],
    ['a stream of objects', () => Readable.from([{}]), 'object mode'],
    ['a destroyed stream', () => new PassThrough().destroy(), 'cannot be read'],
    ['a failed stream', () => failed, 'broken'],
    [
      'a stream that has ended',
      () => usedUp(Readable.from([bytes], { objectMode: false })),
      'cannot be read',
    ],
    ['a web stream that was read', () => read.text().then(() => body), 'was read from'],
    ['a locked web stream', () => locked, 'was read from'],
  ])('%s', async (name, make, message) => {
    const made = name === 'a Promise' ? make() : await make();
    expect(() => takeBytes(made, 'content')).toThrow(
      expect.objectContaining({ code: 'invalid_argument', message: expect.stringContaining(message) }),
    );
  });
});

it('an iterable that gives something else fails when it does', async () => {
  const numbers = takeBytes(new Set([1]), 'content');
  await expect(buffer(numbers)).rejects.toMatchObject({ code: 'invalid_argument' });
});

it('a source that fails is the failure, and is released', async () => {
  const stream = new PassThrough();
  const reason = new Error('the disk is gone');
  const read = withBytes(stream, 'content', async (source) => {
    stream.destroy(reason);
    await expect(buffer(source)).rejects.toBe(reason);
    throw new Error('the task is broken off');
  });
  await expect(read).rejects.toBe(reason);

  const left = new PassThrough();
  await withBytes(left, 'content', async () => undefined);
  expect(left.destroyed).toBe(true);
  let cancelled: unknown;
  const web = new ReadableStream({
    cancel: () => {
      cancelled = 'cancelled';
    },
  });
  await withBytes(web, 'content', async () => undefined);
  expect(cancelled).toBe('cancelled');
});
