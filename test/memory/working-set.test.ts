import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readWorkingSet, writeWorkingSet } from '../../src/formats/pages/working-set.js';
import { temporaryDirectory } from '../support/temporary.js';

const pagesOfBlock = [1000, 4];
const pages = [
  { block: 0, page: 999 },
  { block: 1, page: 0 },
  { block: 0, page: 3 },
];

describe('working set file', () => {
  it('keeps pages in their order', async () => {
    const path = join(await temporaryDirectory(), 'set');
    await writeWorkingSet(path, pages);
    await expect(readWorkingSet(path, pagesOfBlock)).resolves.toEqual(pages);
  });

  it('is nothing where there is no file', async () => {
    const path = join(await temporaryDirectory(), 'none');
    await expect(readWorkingSet(path, pagesOfBlock)).resolves.toBeUndefined();
  });

  it('any damage, and a page outside of the machine, is an integrity error', async () => {
    const path = join(await temporaryDirectory(), 'set');
    await writeWorkingSet(path, pages);
    const bytes = await readFile(path);
    await expect(readWorkingSet(path, [1000])).rejects.toMatchObject({ code: 'integrity' });
    await expect(readWorkingSet(path, [999, 4])).rejects.toMatchObject({ code: 'integrity' });
    const damage = fc.asyncProperty(fc.nat(bytes.length - 1), fc.boolean(), async (at, cut) => {
      const damaged = cut ? bytes.subarray(0, at) : Buffer.from(bytes);
      if (!cut) damaged[at] = (damaged[at] ?? 0) ^ 0x10;
      await writeFile(path, damaged);
      await expect(readWorkingSet(path, pagesOfBlock)).rejects.toMatchObject({ code: 'integrity' });
    });
    await fc.assert(damage, { numRuns: 50 });
  });
});
