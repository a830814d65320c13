import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { hasUserNetwork, withoutUserNetwork } from '../../src/formats/qemu-stream/index.js';
import { openDatabase } from '../../src/store/index.js';
import { newHome } from '../support/home.js';

it('the state of a golden machine loses the section of the user-mode network, and nothing else', async () => {
  await using home = await newHome();
  const db = await openDatabase(join(home.path, 'cryobox.db'));
  const goldens = await db.selectFrom('goldens').selectAll().execute();
  await db.destroy();
  const state = await readFile(join(home.path, 'layers', goldens[0]?.state_layer ?? ''));
  expect(hasUserNetwork(state)).toBe(true);
  const cut = withoutUserNetwork(state);
  expect(cut.length).toBe(state.length - 155);
  expect(hasUserNetwork(cut)).toBe(false);
  expect(withoutUserNetwork(cut)).toBe(cut);
  const at = state.indexOf('\u0005slirp', 0, 'latin1') - 5;
  expect(cut.equals(Buffer.concat([state.subarray(0, at), state.subarray(at + 155)]))).toBe(true);

  // A forwarded connection, and a section that ends elsewhere.
  for (const [offset, value] of [
    [19, 42],
    [150, 0],
  ] as const) {
    const other = Buffer.from(state);
    other[at + offset] = value;
    expect(() => withoutUserNetwork(other)).toThrow('not as expected');
  }
});
