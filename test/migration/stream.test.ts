import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeDeviceState, parseDeviceState } from '../../src/formats/qemu-stream/device-state.js';
import { ramEnd, ramPartStart } from '../../src/formats/qemu-stream/encode.js';
import { PAGE_BYTES } from '../../src/formats/qemu-stream/format.js';
import { SocketSink } from '../../src/formats/qemu-stream/sink.js';
import { type ParsedStream, StreamParser } from '../../src/formats/qemu-stream/stream-parser.js';
import { StreamWriter } from '../../src/formats/qemu-stream/stream-writer.js';
import { socketPair } from '../support/socket-pair.js';

const blocks = [
  { name: 'mem', sizeBytes: 300 * PAGE_BYTES },
  { name: '/rom@etc/acpi/tables', sizeBytes: 3 * PAGE_BYTES },
];
const devices = Buffer.concat([Buffer.from([4, 0, 0, 0, 1]), randomBytes(500)]);

/** A stream as the writer makes it, of runs of random pages; `zero` runs have no data. */
async function written(
  runs: readonly { block: number; page: number; count: number; data?: Buffer }[],
): Promise<Buffer> {
  const [one, other] = await socketPair();
  const received = buffer(other);
  const writer = new StreamWriter({ sink: new SocketSink(one), machineType: 'pc-q35-7.2', blocks });
  await writer.begin();
  for (const { block, page, count, data } of runs) {
    if (data) await writer.pages(block, page, count, data);
    else await writer.zeros(block, page, count);
  }
  await writer.finish(devices);
  one.end();
  return received;
}

/** Feeds a stream in pieces of the given sizes, over and over. */
function parsed(
  stream: Buffer,
  sizes: readonly number[],
): { result: ParsedStream; pages: Map<string, Buffer> } {
  const pages = new Map<string, Buffer>();
  const parser = new StreamParser({
    onPage: (block, page, data) => pages.set(`${block}:${page}`, Buffer.from(data)),
    onZeroPage: (block, page) => pages.set(`${block}:${page}`, Buffer.alloc(PAGE_BYTES)),
  });
  let at = 0;
  for (let turn = 0; at < stream.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    parser.feed(stream.subarray(at, at + size));
    at += size;
  }
  return { result: parser.end(), pages };
}

const runs = [
  { block: 0, page: 2, count: 150, data: randomBytes(150 * PAGE_BYTES) },
  { block: 0, page: 152, count: 90 },
  { block: 1, page: 1, count: 2, data: randomBytes(2 * PAGE_BYTES) },
];

describe('migration stream', () => {
  it('what is written is what is parsed, however it arrives', async () => {
    const stream = await written(runs);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 6 }), (sizes) => {
        const { result, pages } = parsed(stream, sizes);
        expect(result).toMatchObject({ machineType: 'pc-q35-7.2', capabilities: [], blocks });
        expect(result.deviceSections.equals(devices)).toBe(true);
        expect(pages.size).toBe(150 + 90 + 2);
        for (const { block, page, count, data } of runs)
          for (let i = 0; i < count; i += 1) {
            const expected = data?.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES) ?? Buffer.alloc(PAGE_BYTES);
            expect(pages.get(`${block}:${page + i}`)?.equals(expected)).toBe(true);
          }
      }),
      { numRuns: 20 },
    );
  });

  it('a page of 2 GiB and more has its offset in both words', async () => {
    const large = { name: 'mem', sizeBytes: 6 * 2 ** 30 };
    const [one, other] = await socketPair();
    const received = buffer(other);
    const writer = new StreamWriter({ sink: new SocketSink(one), machineType: 'm', blocks: [large] });
    await writer.begin();
    const page = (5 * 2 ** 30) / PAGE_BYTES + 7;
    await writer.pages(0, page, 1, Buffer.alloc(PAGE_BYTES, 1));
    await writer.finish(devices);
    one.end();
    expect([...parsed(await received, [4096]).pages.keys()]).toEqual([`0:${page}`]);
  });

  /** A stream with something put in front of the last part of its memory. */
  const withBeforeEnd = async (record: Buffer): Promise<Buffer> => {
    const stream = await written(runs.slice(1));
    const end = stream.indexOf(ramEnd());
    return Buffer.concat([stream.subarray(0, end), record, stream.subarray(end)]);
  };

  it('the switchover that QEMU announces since 10.0 is passed over', async () => {
    const stream = await withBeforeEnd(Buffer.from([8, 0, 11, 0, 0]));
    for (const size of [1, 7, 4096]) {
      const { result, pages } = parsed(stream, [size]);
      expect(result.deviceSections.equals(devices)).toBe(true);
      expect(pages.size).toBe(92);
    }
  });

  it.each([
    ['a command that wants an answer', [8, 0, 1, 0, 0], /command openReturnPath \(1\) with 0 bytes/],
    ['a command of later versions', [8, 0, 99, 0, 4, 1, 2, 3, 4], /unknown command 99 with 4/],
    ['a switchover with data', [8, 0, 11, 0, 1, 0], /command switchoverStart \(11\) with 1 bytes/],
    ['a section of later versions', [0x33, 0, 0, 0], /unknown section 51/],
    ['a description before its time', [6, 0, 0, 0, 0], /section vmDescription \(6\)/],
    [
      'a device before memory',
      [4, 0, 0, 0, 9, 3, 0x66, 0x64, 0x63],
      /memory before devices, got the device "fdc"/,
    ],
  ])('%s is refused by its name', async (_, record, message) => {
    const stream = await withBeforeEnd(Buffer.from(record));
    for (const size of [1, 4096])
      expect(() => parsed(stream, [size])).toThrow(
        expect.objectContaining({ code: 'machine_failed', message: expect.stringMatching(message) }),
      );
  });

  it('pages of capabilities that are not asked for are refused by their name', async () => {
    const stream = await written(runs.slice(0, 1));
    const page = stream.indexOf(ramPartStart()) + ramPartStart().length;
    stream.writeUInt32BE(stream.readUInt32BE(page + 4) | 0x40, page + 4);
    expect(() => parsed(stream, [4096])).toThrow(/page \(8\) and flag xbzrle \(64\)/);
  });

  it('a description behind the devices is cut off', async () => {
    const stream = await written([]);
    const description = Buffer.from('{"devices": []}');
    const length = Buffer.alloc(5, 6);
    length.writeUInt32BE(description.length, 1);
    const { result } = parsed(Buffer.concat([stream, length, description]), [100]);
    expect(result.deviceSections.equals(devices)).toBe(true);
  });

  it('damage is a typed error or changes only pages and devices, never a crash', async () => {
    const stream = await written(runs.slice(1));
    fc.assert(
      fc.property(fc.nat(stream.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const damaged = Buffer.from(stream);
        damaged[at] = (damaged[at] ?? 0) ^ change;
        try {
          parsed(damaged, [700]);
        } catch (error) {
          expect(error).toMatchObject({ code: 'machine_failed' });
        }
      }),
    );
  });

  it('a stream that ends early is an error', async () => {
    const stream = await written(runs);
    for (const length of [0, 8, 40, 5000, stream.length - 1])
      expect(() => parsed(stream.subarray(0, length), [1000])).toThrow(
        expect.objectContaining({ code: 'machine_failed' }),
      );
  });

  it('writing to a reader that went away is a typed error', async () => {
    const [one, other] = await socketPair();
    other.destroy();
    const writer = new StreamWriter({ sink: new SocketSink(one), machineType: 'm', blocks });
    const all = async (): Promise<void> => {
      await writer.begin();
      for (let turn = 0; turn < 100; turn += 1) await writer.pages(0, 0, 256, Buffer.alloc(256 * PAGE_BYTES));
      await writer.finish(devices);
    };
    await expect(all()).rejects.toMatchObject({ code: 'machine_failed' });
  });
});

describe('device state file', () => {
  it('round-trips its sections', () => {
    expect(parseDeviceState(encodeDeviceState(devices)).equals(devices)).toBe(true);
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['another magic', Buffer.concat([Buffer.from('QEVX'), encodeDeviceState(devices).subarray(4)])],
    ['no end byte', encodeDeviceState(devices).subarray(0, -2)],
    ['a memory section', encodeDeviceState(Buffer.from([1, 0, 0, 0, 1]))],
  ])('refuses %s', (_, file) => {
    expect(() => parseDeviceState(file)).toThrow(expect.objectContaining({ code: 'integrity' }));
  });
});
