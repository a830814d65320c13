import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { partialCharacterBytes, Utf8Cutter } from '../../src/server/http/utf8.js';

function cut(chunks: readonly Uint8Array[], maxBytes: number): Uint8Array[] {
  const cutter = new Utf8Cutter(maxBytes);
  return [...chunks.flatMap((chunk) => cutter.push(chunk)), ...cutter.flush()];
}

describe('Utf8Cutter', () => {
  it('gives every piece whole characters, in order, within the limit', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 200 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 50 }),
        fc.integer({ min: 4, max: 16 }),
        (text, steps, maxBytes) => {
          const bytes = Buffer.from(text);
          const chunks: Uint8Array[] = [];
          for (let at = 0, i = 0; at < bytes.length; i += 1) {
            const step = steps[i % steps.length] ?? 1;
            chunks.push(bytes.subarray(at, at + step));
            at += step;
          }
          const pieces = cut(chunks, maxBytes);
          expect(pieces.every((piece) => piece.length > 0 && piece.length <= maxBytes)).toBe(true);
          const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
          expect(pieces.map((piece) => decoder.decode(piece)).join('')).toBe(bytes.toString('utf8'));
        },
      ),
    );
  });

  it('passes bytes that are not UTF-8 through unchanged', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 })),
        fc.integer({ min: 4, max: 16 }),
        (chunks, max) => {
          expect(Buffer.concat(cut(chunks, max)).equals(Buffer.concat(chunks))).toBe(true);
        },
      ),
    );
  });

  it('holds back only what may still become a character', () => {
    expect(partialCharacterBytes(Uint8Array.of(0x61))).toBe(0);
    expect(partialCharacterBytes(Uint8Array.of(0xe2, 0x82))).toBe(2);
    expect(partialCharacterBytes(Uint8Array.of(0xe2, 0x82, 0xac))).toBe(0);
    expect(partialCharacterBytes(Uint8Array.of(0x80, 0x80, 0x80, 0x80))).toBe(0);
    expect(partialCharacterBytes(Uint8Array.of(0xff))).toBe(0);
  });
});
