import { expect, it } from 'vitest';
import type { BoxListOptions } from '../../src/api/index.js';
import { conformance } from './support.js';

conformance('lists of boxes', (subject) => {
  it('come in pages that together are the whole list, also where a box goes in between', async () => {
    const { runtime } = subject;
    const first = await runtime.create({ image: 'tiny', detach: true });
    await first.stop();
    const boxes = [first];
    for (let i = 0; i < 4; i += 1) boxes.push(await first.clone());
    const ids = async (options?: BoxListOptions): Promise<string[]> =>
      (await runtime.list(options)).map(({ id }) => id);
    const all = await ids();
    // The newest first.
    expect(all.slice(0, 5)).toEqual(boxes.map(({ id }) => id).toReversed());
    const paged: string[] = [];
    for (let page = await ids({ limit: 2 }); page.length > 0; ) {
      paged.push(...page);
      page = await ids({ limit: 2, after: page.at(-1) });
    }
    expect(paged).toEqual(all);
    expect(await ids({ after: all[0] })).toEqual(all.slice(1));
    expect(await ids({ after: all.at(-1) })).toEqual([]);
    expect(await ids({ status: 'stopped', after: all[0], limit: 4 })).toEqual(all.slice(1, 5));
    expect(await ids({ status: 'failed', after: all[0] })).toEqual([]);
    for (const limit of [0, 1001, 1.5]) {
      await expect(runtime.list({ limit })).rejects.toMatchObject({ code: 'invalid_argument' });
    }
    const gone = all[2] ?? '';
    await runtime.remove(gone);
    expect(await ids({ after: all[1], limit: 2 })).toEqual(all.slice(3, 5));
    await expect(runtime.list({ after: gone })).rejects.toMatchObject({ code: 'invalid_argument' });
    for (const box of boxes) if (box.id !== gone) await box.remove();
  });
});
