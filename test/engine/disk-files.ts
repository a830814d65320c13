import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chainOf, type Database, openDatabase } from '../../src/store/index.js';
import { qemuCheck, qemuIo } from '../support/qemu-tools.js';

/** The database of a home whose engine is open, for looking. */
export async function withDatabase<T>(home: string, look: (db: Database) => Promise<T>): Promise<T> {
  const db = await openDatabase(join(home, 'cryobox.db'));
  try {
    return await look(db);
  } finally {
    await db.destroy();
  }
}

/** Ids of the files of a box's container disk, the base first. */
export async function diskChain(home: string, boxId: string): Promise<string[]> {
  return await withDatabase(home, async (db) => {
    const box = await db.selectFrom('boxes').select('disk_head').where('id', '=', boxId).executeTakeFirst();
    return (await chainOf(db, box?.disk_head ?? '')).map(({ id }) => id);
  });
}

/** Writes into the container disk of a box that does not run: 64 KiB of `value` at each block's place. */
export async function writeBlocks(
  home: string,
  boxId: string,
  blocks: ReadonlyMap<number, number>,
): Promise<void> {
  const head = (await diskChain(home, boxId)).at(-1) ?? '';
  const commands = [...blocks].map(([block, value]) => `write -q -P ${value} ${blockOffset(block)} 64k`);
  await qemuIo(join(home, 'layers', head), 'qcow2', ...commands);
}

/** Where a block of the model is: where the file system of a small image keeps nothing, one in each 64 MiB. */
export function blockOffset(block: number): number {
  return 9 * 2 ** 30 + (block * 64 + 33) * 2 ** 20;
}

/** Sealed layers that were found sound: they do not change. */
const sound = new Set<string>();

/** Throws unless qemu-img finds every qcow2 file of a home sound. */
export async function checkAllImages(home: string): Promise<void> {
  const rows = await withDatabase(home, (db) =>
    db.selectFrom('layers').select(['id', 'state']).where('kind', '=', 'qcow2').execute(),
  );
  for (const { id, state } of rows) {
    if (sound.has(id)) continue;
    const report = await qemuCheck(join(home, 'layers', id)).catch(async (error: unknown) => {
      const isThere = (db: Database) => db.selectFrom('layers').select('id').where('id', '=', id).execute();
      if ((await withDatabase(home, isThere)).length > 0) throw error;
    });
    // The background collected it meanwhile.
    if (!report) continue;
    if (report['check-errors'] !== 0 || report.corruptions || report.leaks) {
      throw new Error(`qemu-img check ${id}: ${JSON.stringify(report)}`);
    }
    if (state === 'sealed') sound.add(id);
  }
}

/** Names of all files of a home's layers. */
export async function layerFiles(home: string): Promise<string[]> {
  return (await readdir(join(home, 'layers'))).sort();
}
