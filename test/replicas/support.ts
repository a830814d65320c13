import { join } from 'node:path';
import { expect } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { machinesBelow } from '../../src/machine/index.js';
import { openDatabase } from '../../src/store/index.js';
import { newHome, type TestHome } from '../support/home.js';

/** A home with the image `tiny` and the golden machine only: the other image would be copied by every test. */
export async function leanHome(): Promise<TestHome> {
  const home = await newHome();
  const db = await openDatabase(join(home.path, 'cryobox.db'));
  try {
    const others = await db
      .selectFrom('images')
      .selectAll()
      .where('reference', 'not like', '%tiny%')
      .execute();
    for (const { id, manifest_digest } of others) {
      await db.deleteFrom('images').where('id', '=', id).execute();
      await db.deleteFrom('image_disks').where('manifest_digest', '=', manifest_digest).execute();
      await db.deleteFrom('layer_holds').where('holder', '=', `image:${manifest_digest}`).execute();
    }
  } finally {
    await db.destroy();
  }
  return home;
}

/** Waits until boxes are safe. */
export async function untilReplicated(...boxes: readonly Box[]): Promise<void> {
  const states = () => Promise.all(boxes.map(async (box) => (await box.info()).durability));
  await expect.poll(states, { timeout: 100_000, interval: 100 }).toEqual(boxes.map(() => 'replicated'));
}

/** Ends the machines of a home whose engine was killed: those that waited for boxes outlive it. */
export async function endMachines(home: TestHome): Promise<void> {
  const machines = await machinesBelow(join(home.path, 'machines'));
  for (const machine of machines) process.kill(machine.process.pid, 'SIGKILL');
}
