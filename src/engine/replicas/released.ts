import type { CallOptions } from '../../api/index.js';
import { isCryoboxError } from '../../errors.js';
import { allObjects, type ObjectStore, readDocument } from '../../objects/index.js';
import { type BoxManifest, departureOf } from './layout.js';

/** A box of a tenant that has left its home and has no other yet, by id or name; the latest of several of a name. */
export async function findReleased(
  store: ObjectStore,
  tenant: string,
  idOrName: string,
  options: CallOptions,
): Promise<BoxManifest | undefined> {
  let found: BoxManifest | undefined;
  for await (const { key } of allObjects(store, 'released/', options)) {
    const manifest = departureOf(key) && (await manifestAt(store, key, options));
    if (!manifest || manifest.box.tenant !== tenant) continue;
    if (manifest.box.id === idOrName) found = manifest;
    else if (manifest.box.name === idOrName && found?.box.id !== idOrName) found = manifest;
  }
  return found;
}

/** Undefined for one that another home has got since the listing. */
async function manifestAt(
  store: ObjectStore,
  key: string,
  options: CallOptions,
): Promise<BoxManifest | undefined> {
  try {
    return (await readDocument(store, key, options)).value as BoxManifest;
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return undefined;
    throw error;
  }
}

/** The latest epoch with which each box has left the home of a store: what it still says of such a one is of before. */
export async function epochsThatLeft(
  store: ObjectStore,
  options: CallOptions,
): Promise<ReadonlyMap<string, number>> {
  const epochs = new Map<string, number>();
  for (const folder of ['released/', 'taken/']) {
    for await (const { key } of allObjects(store, folder, options)) {
      const left = departureOf(key);
      if (left) epochs.set(left.id, Math.max(left.epoch, epochs.get(left.id) ?? 0));
    }
  }
  return epochs;
}
