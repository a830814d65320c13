import { expect, it } from 'vitest';
import { AttachedBoxes } from '../../src/base/attached.js';

it('keeps few boxes that others have removed, however many were made', async () => {
  const there = new Set<string>();
  let asked = 0;
  const attached = new AttachedBoxes(async (id) => {
    asked += 1;
    return there.has(id);
  });
  there.add('stays');
  await attached.add('stays');
  for (let i = 0; i < 10_000; i += 1) {
    there.add(`box_${i}`);
    await attached.add(`box_${i}`);
    there.delete(`box_${i}`);
    expect(attached.size).toBeLessThanOrEqual(65);
  }
  // Each box costs a question or two, not one for every other box.
  expect(asked).toBeLessThan(30_000);
  expect(attached.take()).toContain('stays');
  expect(attached.take()).toEqual([]);
});

it('keeps a box that it cannot ask about, and forgets one that was removed', async () => {
  const attached = new AttachedBoxes(() => Promise.reject(new Error('nobody answers')));
  for (let i = 0; i < 100; i += 1) await attached.add(`box_${i}`);
  expect(attached.size).toBe(100);
  attached.delete('box_7');
  expect(attached.take()).not.toContain('box_7');
});
