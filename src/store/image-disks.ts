import type { Database } from './database.js';
import { hold, release } from './holds.js';
import { insertLayers } from './layers.js';
import type { LayerRow } from './schema.js';
import { valuesOf } from './values.js';

/** Which base disk: an image's manifest, and the size. */
export interface ImageDiskKey {
  readonly manifestDigest: string;
  readonly sizeGb: number;
}

/** The stored base disk of an image, if there is one of that size. */
export async function findImageDisk(
  db: Database,
  { manifestDigest, sizeGb }: ImageDiskKey,
): Promise<LayerRow | undefined> {
  return await db
    .selectFrom('image_disks')
    .innerJoin('layers', 'layers.id', 'image_disks.layer_id')
    .selectAll('layers')
    .where('manifest_digest', '=', manifestDigest)
    .where('size_gb', '=', sizeGb)
    .executeTakeFirst();
}

/** Stores the base disk of an image. */
export async function insertImageDisk(
  tx: Database,
  { manifestDigest, sizeGb }: ImageDiskKey,
  layer: LayerRow,
): Promise<void> {
  await insertLayers(tx, [layer]);
  const disk = { manifest_digest: manifestDigest, size_gb: sizeGb, layer_id: layer.id };
  await tx.insertInto('image_disks').values(disk).execute();
  await hold(tx, `image:${manifestDigest}`, [layer.id]);
}

/** Digests of the manifests that have base disks. */
export async function manifestsWithDisk(db: Database): Promise<string[]> {
  const disks = await db.selectFrom('image_disks').select('manifest_digest').distinct().execute();
  return disks.map(({ manifest_digest }) => manifest_digest);
}

/** Deletes the base disks of images; a box that stands on one holds it itself. */
export async function deleteImageDisks(tx: Database, manifestDigests: readonly string[]): Promise<void> {
  await tx.deleteFrom('image_disks').where('manifest_digest', 'in', valuesOf(manifestDigests)).execute();
  for (const digest of manifestDigests) await release(tx, `image:${digest}`);
}
