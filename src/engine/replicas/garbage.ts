import type { CallOptions } from '../../api/index.js';
import { faultPoint } from '../../base/faults.js';
import { isCryoboxError } from '../../errors.js';
import { allObjects, putDocument, readDocument } from '../../objects/index.js';
import { departureOf, type GarbageDocument, keyOf, type Manifest } from './layout.js';
import type { Shelf } from './shelf.js';

/**
 * Removes what no manifest names and has not for `graceMs`: somebody may be reading an older manifest. What is not needed
 * now is noted, and goes when a later call finds it so still. Goes by the manifests in the store alone: one that cannot
 * be read ends it. Returns how many layers and blobs went. Throws `integrity`, and as a store does.
 */
export async function collectGarbage(shelf: Shelf, graceMs: number, options: CallOptions): Promise<number> {
  const { store } = shelf;
  const needed = await neededIn(shelf, options);
  const noted = await notedGarbage(shelf, options);
  const now = Date.now();
  const since: Record<string, number> = {};
  const gone: string[] = [];
  for (const name of [...shelf.layers.keys(), ...shelf.blobs]) {
    if (needed.has(name)) continue;
    const at = Math.min(noted[name] ?? now, now);
    if (now - at >= graceMs && noted[name] !== undefined) gone.push(name);
    else since[name] = at;
  }
  for (const name of gone) {
    const isLayer = shelf.layers.delete(name);
    shelf.blobs.delete(name);
    // The index first: a layer without one counts as none.
    if (isLayer) await store.remove([keyOf.layerIndex(name)], options);
    faultPoint('replica.remove:after');
    await store.remove([isLayer ? keyOf.layerData(name) : `blobs/${name}`], options);
  }
  await putDocument(store, keyOf.garbage, since, options);
  await store.abortUploads({ olderThanMs: graceMs, ...options });
  return gone.length;
}

async function neededIn(shelf: Shelf, options: CallOptions): Promise<Set<string>> {
  const needed = new Set<string>();
  // Those that left are asked for anew: the homes that get them remove them.
  const manifests = [...shelf.manifests];
  for await (const { key } of allObjects(shelf.store, 'released/', options)) manifests.push(key);
  for (const key of manifests) {
    const manifest = await manifestAt(shelf, key, options);
    if (!manifest) continue;
    for (const { row } of manifest.layers) needed.add(row.id);
    if (manifest.kind !== 'image') continue;
    for (const { digest } of manifest.blobs) needed.add(digest.slice('sha256:'.length));
  }
  return needed;
}

/** Undefined for a box that another home has got since the listing. */
async function manifestAt(
  { store }: Shelf,
  key: string,
  options: CallOptions,
): Promise<Manifest | undefined> {
  try {
    return (await readDocument(store, key, options)).value as Manifest;
  } catch (error) {
    if (isCryoboxError(error, 'not_found') && departureOf(key)) return undefined;
    throw error;
  }
}

/** A list of garbage that is damaged or gone is begun anew: then all of it has its time once more. */
async function notedGarbage({ store }: Shelf, options: CallOptions): Promise<GarbageDocument> {
  try {
    return (await readDocument(store, keyOf.garbage, options)).value as GarbageDocument;
  } catch (error) {
    if (isCryoboxError(error, 'not_found') || isCryoboxError(error, 'integrity')) return {};
    throw error;
  }
}
