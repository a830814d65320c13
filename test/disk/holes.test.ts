import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createOverlay, flattenStream, openChain } from '../../src/formats/qcow2/index.js';
import { qemuIo, qemuMap, temporaryDirectory } from './support.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe('a sparse raw base', () => {
  it('is known by its holes, in few pieces and in many', async () => {
    const directory = await temporaryDirectory();
    for (const pieces of [1, 3, 4, 5, 30, 400]) {
      const name = `base${pieces}`;
      const base = await open(join(directory, name), 'w');
      await base.truncate(20 * GIB);
      for (let i = 0; i < pieces; i += 1) await base.write('data', i * 40 * MIB + 5);
      await base.write('end', 20 * GIB - 3);
      await base.close();
      await using chain = await openChain({ directory, top: name, topFormat: 'raw' });
      const kinds: string[] = [];
      for await (const range of chain.mapRanges())
        kinds.push(`${range.kind} ${range.offset} ${range.length}`);
      expect(kinds.filter((kind) => kind.startsWith('data')).length).toBe(pieces + 1);
      expect(kinds[0]).toBe('data 0 65536');
      expect((await chain.read(20 * GIB - 5, 5)).toString('latin1')).toBe('\0\0end');
      // What QEMU calls holes, to the cluster.
      const theirs = (await qemuMap(join(directory, name), 'raw')) as { data: boolean; length: number }[];
      const dataBytes = theirs.reduce(
        (sum, { data, length }) => sum + (data ? 65_536 * Math.ceil(length / 65_536) : 0),
        0,
      );
      expect(
        kinds.reduce((sum, kind) => sum + (kind.startsWith('data') ? Number(kind.split(' ')[2]) : 0), 0),
      ).toBe(dataBytes);
    }
  });

  it('does not make its overlay larger than its data', async () => {
    const directory = await temporaryDirectory();
    const base = await open(join(directory, 'base'), 'w');
    await base.truncate(10 * GIB);
    await base.write(Buffer.alloc(MIB, 3), 0, MIB, 9 * GIB);
    await base.close();
    const backing = { name: 'base', format: 'raw' } as const;
    await createOverlay({ path: join(directory, 'top'), virtualSizeBytes: 10 * GIB, backing });
    await qemuIo(join(directory, 'top'), 'qcow2', 'write -P 4 5G 1M');
    await using chain = await openChain({ directory, top: 'top' });
    const { sizeBytes } = await flattenStream(chain);
    expect(sizeBytes).toBeLessThan(3 * MIB);
    expect((await chain.read(9 * GIB, MIB)).equals(Buffer.alloc(MIB, 3))).toBe(true);
  });
});
