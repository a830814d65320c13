import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '../../src/base/ids.js';
import { Engine } from '../../src/engine/index.js';
import {
  type BoxRow,
  type Database,
  findBoxNamed,
  insertBox,
  type LayerRow,
  openDatabase,
  requireLayer,
} from '../../src/store/index.js';
import { newHome, type TestHome } from '../../test/support/home.js';

/** Rows of one transaction. */
const boxesOfTransaction = 500;

/** A home with a stopped box `first`, which has a snapshot `s`, and `count` others like it, as rows and empty heads. */
export async function homeOfBoxes(count: number): Promise<TestHome> {
  const home = await newHome();
  const engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().create({ image: 'tiny', name: 'first' });
  await box.stop();
  await box.snapshot.create('s');
  await engine.close();
  const db = await openDatabase(join(home.path, 'cryobox.db'));
  try {
    const first = await findBoxNamed(db, '', 'first');
    if (!first) throw new Error('the first box is gone');
    for (let made = 0; made < count; made += boxesOfTransaction) {
      const more = Math.min(boxesOfTransaction, count - made);
      await db.transaction().execute(async (tx) => {
        for (let i = 0; i < more; i += 1) await addBoxLike(tx, home.path, first);
      });
    }
  } finally {
    await db.destroy();
  }
  return home;
}

async function addBoxLike(tx: Database, home: string, first: BoxRow): Promise<void> {
  const [guest, disk] = await Promise.all([
    copyHead(tx, home, first.guest_head),
    copyHead(tx, home, first.disk_head),
  ]);
  const heads = { guest_head: guest.id, disk_head: disk.id };
  const row = { ...first, ...heads, id: newId('box'), name: null, snapshot_id: null, created_at: Date.now() };
  await insertBox(tx, row, [guest, disk]);
}

/** The row and the file of a head on the same layer. */
async function copyHead(tx: Database, home: string, id: string): Promise<LayerRow> {
  const head = { ...(await requireLayer(tx, id)), id: newId('lay') };
  await copyFile(join(home, 'layers', id), join(home, 'layers', head.id));
  return head;
}
