import { describe, expect, it } from 'vitest';
import { ByteQueue } from '../../src/remote/byte-queue.js';
import { jsonLines, resultOfLines } from '../../src/remote/lines.js';
import { segment } from '../../src/remote/transport.js';

async function* chunksOf(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe('lines of JSON', () => {
  it('are found however the bytes are cut', async () => {
    const text = '\n{"type":"progress","stage":"é","done_bytes":1}\n\n{"type":"result","result":{"a":1}}\n';
    for (const size of [1, 2, 3, 7, 1000]) {
      const stages: string[] = [];
      const result = await resultOfLines(jsonLines(chunksOf(text, size)), ({ stage }) => stages.push(stage));
      expect([stages, result]).toEqual([['é'], { a: 1 }]);
    }
  });

  it('end in the error the server sent, or in one that there was no result', async () => {
    const failed =
      '{"type":"error","error":{"message":"m","type":"T","code":"not_found","reason":"image_not_found"}}\n';
    const ignore = (): void => undefined;
    const refused = resultOfLines(jsonLines(chunksOf(failed, 10)), ignore);
    await expect(refused).rejects.toMatchObject({ code: 'image_not_found', message: 'm' });
    const cut = resultOfLines(jsonLines(chunksOf('{"type":"progress","stage":"x"}\n{"ty', 10)), ignore);
    await expect(cut).rejects.toMatchObject({ code: 'upstream_unavailable' });
  });
});

describe('ByteQueue', () => {
  it('counts what its reader took, and drops the rest when the reader leaves', async () => {
    let taken = 0;
    const queue = new ByteQueue((bytes) => {
      taken += bytes;
    });
    for (const text of ['a', 'bc', 'def']) queue.push(Buffer.from(text));
    for await (const chunk of queue) {
      expect([String(chunk), taken]).toEqual(['a', 1]);
      break;
    }
    expect(taken).toBe(6);
    queue.push(Buffer.from('late'));
    expect(taken).toBe(10);
  });

  it('gives what it has before its failure', async () => {
    const queue = new ByteQueue(() => undefined);
    queue.push(Buffer.from('x'));
    queue.end(new Error('broken'));
    const got: string[] = [];
    const read = (async () => {
      for await (const chunk of queue) got.push(String(chunk));
    })();
    await expect(read).rejects.toThrow('broken');
    expect(got).toEqual(['x']);
  });
});

describe('segment', () => {
  it('keeps names from becoming other paths', () => {
    expect(['a/b', '..', '.', 'a?b#c', 'é'].map(segment)).toEqual([
      'a%2Fb',
      '%2E%2E',
      '%2E',
      'a%3Fb%23c',
      '%C3%A9',
    ]);
  });
});
