import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeFrame,
  type Frame,
  FrameDecoder,
  magic,
  maxHeaderBytes,
  maxPayloadBytes,
} from '../../src/guest/frames.js';

const nonce = Buffer.alloc(16, 7);

/** Takes a piece and returns the frames that are whole then. */
function push(decoder: FrameDecoder, piece: Buffer): Frame[] {
  decoder.take(piece);
  const frames: Frame[] = [];
  for (let frame = decoder.next(); frame; frame = decoder.next()) frames.push(frame);
  return frames;
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0, index = 0; at < bytes.length; index += 1) {
    const size = sizes[index % sizes.length] ?? 1;
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

describe('frames', () => {
  it('come out as they went in, whatever came before and however they are cut', () => {
    const frame = fc.record({
      header: fc.dictionary(
        fc.string(),
        fc.oneof(fc.string({ unit: 'grapheme' }), fc.integer(), fc.boolean()),
      ),
      payload: fc.uint8Array({ maxLength: 3000 }),
    });
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1 }),
        (rubbish, frames, sizes) => {
          const wire = frames.flatMap(({ header, payload }) => encodeFrame(header, payload));
          const bytes = Buffer.concat([rubbish, magic, nonce.subarray(1), magic, nonce, ...wire]);
          const decoder = new FrameDecoder();
          decoder.awaitPreamble(nonce);
          const decoded = cut(bytes, sizes).flatMap((piece) => push(decoder, piece));
          expect(decoder.synchronised).toBe(true);
          expect(decoded.map(({ header }) => header)).toEqual(
            frames.map(({ header }) => JSON.parse(JSON.stringify(header))),
          );
          expect(decoded.map(({ payload }) => [...payload])).toEqual(
            frames.map(({ payload }) => [...payload]),
          );
        },
      ),
    );
  });

  it('keep their limits', () => {
    expect(() => encodeFrame({ text: 'x'.repeat(maxHeaderBytes) })).toThrow(/at most 65536 fit/);
    expect(() => encodeFrame({}, Buffer.alloc(maxPayloadBytes + 1))).toThrow(/at most 65536 fit/);
    const decoder = new FrameDecoder();
    expect(() => push(decoder, Buffer.from([0, 2, 0, 0, 0, 0, 0, 0]))).toThrow(/a header of 131072/);
  });

  it('never throw anything but a typed error on rubbish', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (rubbish) => {
        const decoder = new FrameDecoder();
        try {
          push(decoder, Buffer.from(rubbish));
          push(decoder, Buffer.concat(encodeFrame({ a: 1 })));
        } catch (error) {
          expect(error).toMatchObject({ code: 'agent_mismatch' });
        }
      }),
    );
  });
});
