const MIB = 1024 * 1024;

/**
 * Pieces of 1 MiB that pack about as well as a root file system: stretches of words and of noise, the same each time.
 * A piece keeps its bytes until the next is asked for.
 */
export function* sampleBytes(totalMiB: number): Generator<Buffer> {
  let state = 1;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 8;
  };
  const words = Array.from({ length: 4096 }, () =>
    random()
      .toString(36)
      .slice(0, 2 + (random() % 6)),
  );
  const piece = Buffer.alloc(MIB);
  for (let made = 0; made < totalMiB; made += 1) {
    for (let i = 0; i < MIB; ) {
      if ((i >> 14) % 4 === 0) i = piece.writeUInt32LE(Math.imul(random(), 2_654_435_761) >>> 0, i);
      else i += piece.write(`${words[random() % words.length]} `, i);
      if (i > MIB - 16) break;
    }
    yield piece;
  }
}
