import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_BYTES, type RamBlock } from '../../src/formats/qemu-stream/format.js';
import type { PageSource } from '../../src/formats/qemu-stream/page-source.js';
import { type PostcopyOptions, PostcopySource } from '../../src/formats/qemu-stream/postcopy.js';
import { type PageRequest, ReturnPathParser } from '../../src/formats/qemu-stream/return-path.js';
import { SentPages } from '../../src/formats/qemu-stream/sent-pages.js';
import { socketPair } from '../support/socket-pair.js';

const blocks: RamBlock[] = [
  { name: 'mem', sizeBytes: 64 * PAGE_BYTES },
  { name: 'pc.bios', sizeBytes: 4 * PAGE_BYTES },
];

function request(block: string | undefined, page: number, count = 1): Buffer {
  const data = Buffer.alloc(12);
  data.writeBigUInt64BE(BigInt(page * PAGE_BYTES));
  data.writeUInt32BE(count * PAGE_BYTES, 8);
  const name =
    block === undefined ? Buffer.alloc(0) : Buffer.from(`${String.fromCharCode(block.length)}${block}`);
  return message(block === undefined ? 4 : 3, Buffer.concat([data, name]));
}

function message(type: number, data: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(type, 0);
  header.writeUInt16BE(data.length, 2);
  return Buffer.concat([header, data]);
}

describe('return path', () => {
  it('parses requests however they arrive; one without a name means the block before', () => {
    const bytes = Buffer.concat([
      request('mem', 3),
      request(undefined, 4, 2),
      request('pc.bios', 1),
      message(1, Buffer.alloc(4)),
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), (size) => {
        const seen: PageRequest[] = [];
        const shut: boolean[] = [];
        const parser = new ReturnPathParser(blocks, {
          onRequest: (r) => seen.push(r),
          onShut: (ok) => shut.push(ok),
        });
        for (let at = 0; at < bytes.length; at += size) parser.feed(bytes.subarray(at, at + size));
        expect(seen).toEqual([
          { block: 0, page: 3, count: 1 },
          { block: 0, page: 4, count: 2 },
          { block: 1, page: 1, count: 1 },
        ]);
        expect(shut).toEqual([true]);
      }),
    );
  });

  it.each([
    ['a block that is not listed', request('other', 0)],
    ['a page behind the end', request('mem', 64)],
    ['a request before any block', request(undefined, 0)],
    ['an unknown type', message(9, Buffer.alloc(4))],
    ['a message too long', message(3, Buffer.alloc(600))],
  ])('refuses %s', (_, bytes) => {
    const parser = new ReturnPathParser(blocks, { onRequest: () => undefined, onShut: () => undefined });
    expect(() => parser.feed(bytes)).toThrow(expect.objectContaining({ code: 'machine_failed' }));
  });
});

describe('sent pages', () => {
  it('knows what is missing, like a plain set', () => {
    const ranges = fc.array(fc.tuple(fc.nat(63), fc.integer({ min: 1, max: 20 })));
    fc.assert(
      fc.property(ranges, fc.nat(63), fc.nat(64), (added, a, b) => {
        const sent = new SentPages(blocks);
        const plain = new Set<number>();
        for (const [page, count] of added) {
          const end = Math.min(64, page + count);
          sent.add(0, page, end - page);
          for (let at = page; at < end; at += 1) plain.add(at);
        }
        const [from, end] = [Math.min(a, b), Math.max(a, b)];
        const missing = [...sent.missing(0, from, end)].flatMap(({ startPage, pageCount }) =>
          Array.from({ length: pageCount }, (_, i) => startPage + i),
        );
        const expected = Array.from({ length: end - from }, (_, i) => from + i).filter(
          (page) => !plain.has(page),
        );
        expect(missing).toEqual(expected);
      }),
    );
  });
});

describe('postcopy source', () => {
  /** Even pages hold their number, odd ones are zero. */
  const source: PageSource = {
    blocks,
    dataRanges: (_, startPage, pageCount) =>
      Array.from({ length: pageCount }, (_unused, i) => ({ startPage: startPage + i, pageCount: 1 })).filter(
        (range) => range.startPage % 2 === 0,
      ),
    read: async (_, startPage, pageCount, target) => {
      for (let i = 0; i < pageCount; i += 1) target.fill(startPage + i, i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
    },
  };

  async function serve(more: Partial<PostcopyOptions>): Promise<PostcopySource> {
    const [one, other] = await socketPair();
    other.resume();
    const deviceSections = Buffer.from([4, 0, 0, 0, 0]);
    // The last request is answered: only now the rest may follow.
    const read: PageSource['read'] = async (block, ...rest) => {
      await source.read(block, ...rest);
      if (block === 1) server.startBackground();
    };
    const server = new PostcopySource({
      socket: one,
      machineType: 'm',
      source: { ...source, read },
      deviceSections,
      ...more,
    });
    other.on('end', () => other.end());
    const run = server.run();
    other.write(
      Buffer.concat([request('mem', 9), request('mem', 9), request(undefined, 12), request('pc.bios', 2)]),
    );
    // QEMU says so when it has everything; here it is said ahead.
    other.write(message(1, Buffer.alloc(4)));
    await run;
    return server;
  }

  it('sends every page with data exactly once, and notes each page asked for once', async () => {
    const server = await serve({ clusterPages: 4 });
    const { stats } = server;
    expect(server.faultOrder).toEqual([
      { block: 0, page: 9 },
      { block: 0, page: 12 },
      { block: 1, page: 2 },
    ]);
    expect(stats.answeredPages + stats.backgroundPages).toBe(32 + 2);
    expect(stats.answeredPages).toBe(2 + 2 + 2);
  });

  it('what was sent before is not asked about, and not sent again', async () => {
    const prefetch = [9, 13, 13, 63].map((page) => ({ block: 0, page }));
    const { stats, faultOrder } = await serve({ clusterPages: 4, prefetch });
    expect(stats.prefetchedPages).toBe(4);
    expect(faultOrder).toEqual([{ block: 1, page: 2 }]);
    expect(stats.answeredPages + stats.backgroundPages + stats.prefetchedPages).toBe(34);
  });

  it('refuses a group that is no power of two', async () => {
    await expect(serve({ clusterPages: 6 })).rejects.toMatchObject({ code: 'invalid_argument' });
  });
});
