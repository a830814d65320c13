import type { ProgressOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { faultPoint } from '../../base/faults.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { BlobStore } from '../../image/index.js';
import { type ObjectStore, objectLimits } from '../../objects/index.js';
import {
  type BoxRow,
  type Database,
  GroupCommit,
  type HeldMemory,
  insertRecovered,
  isEmptyHome,
  keepHomeId,
  type LayerRow,
} from '../../store/index.js';
import type { HomePaths } from '../core/home.js';
import { LayerFiles } from '../layers/layer-files.js';
import { withHeads } from './heads.js';
import { dataBytes, fetchLayer } from './layer-objects.js';
import { type ImageManifest, keyOf } from './layout.js';
import { type Survey, surveyStore } from './survey.js';
import { claimStore } from './writer.js';

/** How a home comes back. */
export interface RecoverOptions extends ProgressOptions {
  /** Ids of boxes, templates and images, or names of boxes, that stay away. @default none */
  readonly skip?: readonly string[];
}

/** What came back. */
export interface Recovered {
  readonly boxes: readonly { readonly id: string; readonly name: string | null; readonly status: string }[];
  readonly templates: number;
  readonly images: number;
  readonly layers: number;
  readonly bytes: number;
}

/**
 * Brings what a store holds of a home into an empty one, which must be locked. Everything is looked at before anything is
 * written, and one commit makes it true: a home that this was cut short in is as empty as before, and it can be done
 * again. From then on the store is this home's. Throws `invalid_state` for a home that is not empty, `not_found`,
 * `integrity`, `disk_full`, `cancelled`, and as a store does.
 */
export async function recoverInto(
  paths: HomePaths,
  db: Database,
  store: ObjectStore,
  options: RecoverOptions = {},
): Promise<Recovered> {
  await requireEmpty(paths, db);
  const { signal, skip = [] } = options;
  const survey = await surveyStore(store, { skip, signal });
  const layers = new LayerFiles(paths.layers);
  const bytes = await fetchLayers(store, survey, layers, options);
  for (const image of survey.images) await fetchBlobs(store, paths, image, options);
  const rows = [...survey.layers.values()].map(({ needed }) => needed.row);
  const boxes = await allWithHeads(survey, rows, layers);
  await layers.sync([]);
  throwIfCancelled(signal, 'the recovery');
  // Now nobody else may write there: what is read is what there is from now on.
  await claimStore(store, await keepHomeId(db, newId('opn')), { replace: true });
  faultPoint('recover.claim:after');
  const memories = new Map<string, HeldMemory>();
  for (const it of [...survey.boxes, ...survey.templates]) {
    for (const memory of it.memories) memories.set(memory.row.id, memory);
  }
  await new GroupCommit(db).run((tx) =>
    insertRecovered(tx, {
      store: survey.store,
      layers: [...rows, ...boxes.heads],
      memories: [...memories.values()],
      boxes: boxes.rows,
      snapshots: survey.boxes.flatMap(({ snapshots }) => snapshots),
      templates: survey.templates.map(({ template }) => template),
      images: survey.images.map(({ image }) => image),
      disks: disksOf(survey.images),
    }),
  );
  return {
    boxes: boxes.rows.map(({ id, name, status }) => ({ id, name, status })),
    templates: survey.templates.length,
    images: survey.images.length,
    layers: rows.length,
    bytes,
  };
}

async function requireEmpty({ root }: HomePaths, db: Database): Promise<void> {
  if (await isEmptyHome(db)) return;
  throw new CryoboxError('invalid_state', `${root} is a home with boxes, images or volumes in it`, {
    hint: 'Recover into a home of its own: `cryobox --home DIRECTORY recover URL`.',
  });
}

async function fetchLayers(
  store: ObjectStore,
  survey: Survey,
  layers: LayerFiles,
  { signal, onProgress }: RecoverOptions,
): Promise<number> {
  let doneBytes = 0;
  const totalBytes = [...survey.layers.values()].reduce((sum, { index }) => sum + dataBytes(index), 0);
  for (const [id, { index }] of survey.layers) {
    await fetchLayer(store, index, layers.path(id), { signal });
    await layers.seal(id);
    doneBytes += dataBytes(index);
    onProgress?.({ stage: 'recover', item: id, doneBytes, totalBytes });
  }
  return doneBytes;
}

/** Blobs are verified by their names. */
async function fetchBlobs(
  store: ObjectStore,
  paths: HomePaths,
  { blobs }: ImageManifest,
  { signal }: RecoverOptions,
): Promise<void> {
  const images = new BlobStore(paths.images);
  for (const { digest, sizeBytes } of blobs) {
    const open = async (offset: number) => readOn(store, keyOf.blob(digest), offset, sizeBytes, signal);
    await images.put(digest, { sizeBytes, open, signal });
    faultPoint('recover.blob:after');
  }
}

async function* readOn(
  store: ObjectStore,
  key: string,
  from: number,
  sizeBytes: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for (let offset = from; offset < sizeBytes; offset += objectLimits.readBytes) {
    yield await store.read(key, {
      offset,
      length: Math.min(objectLimits.readBytes, sizeBytes - offset),
      signal,
    });
  }
}

/** Boxes with empty heads on what they come back from. */
async function allWithHeads(
  survey: Survey,
  layerRows: readonly LayerRow[],
  files: LayerFiles,
): Promise<{ rows: BoxRow[]; heads: LayerRow[] }> {
  const byId = new Map(layerRows.map((row) => [row.id, row]));
  const heads: LayerRow[] = [];
  const rows: BoxRow[] = [];
  for (const manifest of survey.boxes) {
    const made = await withHeads(manifest, byId, files);
    heads.push(...made.heads);
    rows.push(made.row);
  }
  return { rows, heads };
}

/** The base disks of images, each once: several references may name one image. */
function disksOf(images: readonly ImageManifest[]) {
  const disks = new Map<string, { manifest_digest: string; size_gb: number; layer_id: string }>();
  for (const { image, disks: some } of images) {
    const { manifest_digest } = image;
    for (const { size_gb, layer_id } of some) {
      disks.set(`${manifest_digest}/${size_gb}`, { manifest_digest, size_gb, layer_id });
    }
  }
  return [...disks.values()];
}
