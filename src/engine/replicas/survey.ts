import type { CallOptions } from '../../api/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import { allObjects, type ObjectStore, readDocument } from '../../objects/index.js';
import { dataBytes, readLayerIndex } from './layer-objects.js';
import {
  type BoxManifest,
  type ImageManifest,
  keyOf,
  type LayerIndex,
  type Manifest,
  manifestFolders,
  type NeededLayer,
  storeFormat,
  type TemplateManifest,
} from './layout.js';
import { epochsThatLeft } from './released.js';
import { storeId } from './writer.js';

/** So many faults of a store are named. */
const shownFaults = 5;

/** Everything that a store holds of a home, looked at and whole. */
export interface Survey {
  readonly store: string;
  readonly boxes: readonly BoxManifest[];
  readonly templates: readonly TemplateManifest[];
  readonly images: readonly ImageManifest[];
  /** Layers by id, each with its index. */
  readonly layers: ReadonlyMap<string, { readonly needed: NeededLayer; readonly index: LayerIndex }>;
}

/** What is left out. */
export interface SurveyOptions extends CallOptions {
  /** Ids of boxes, templates and images, or names of boxes. */
  readonly skip: readonly string[];
}

/**
 * Reads every manifest, and sees that all that they name is there. Throws `not_found` when no home was replicated there,
 * `integrity` naming what is missing and what it belongs to.
 */
export async function surveyStore(store: ObjectStore, options: SurveyOptions): Promise<Survey> {
  const id = await storeId(store);
  if (id === undefined) throw nothingThere(store);
  const faults: string[] = [];
  const manifests = await readManifests(store, options, faults);
  const layers = new Map<string, { needed: NeededLayer; index: LayerIndex }>();
  for (const manifest of manifests) {
    await surveyLayers(store, manifest, layers, faults, options);
    if (manifest.kind === 'image') await surveyBlobs(store, manifest, faults, options);
  }
  if (faults.length > 0) throw incomplete(store, faults);
  return {
    store: id,
    boxes: manifests.filter((it) => it.kind === 'box'),
    templates: manifests.filter((it) => it.kind === 'template'),
    images: manifests.filter((it) => it.kind === 'image'),
    layers,
  };
}

async function readManifests(
  store: ObjectStore,
  { skip, signal }: SurveyOptions,
  faults: string[],
): Promise<Manifest[]> {
  const manifests: Manifest[] = [];
  const left = await epochsThatLeft(store, { signal });
  for (const folder of manifestFolders) {
    for await (const { key } of allObjects(store, `${folder}/`, { signal })) {
      if (skip.includes(key.slice(folder.length + 1, -'.json'.length))) continue;
      try {
        const manifest = (await readDocument(store, key, { signal })).value as Manifest;
        if (manifest.format !== storeFormat) faults.push(`${key} has format ${manifest.format}`);
        else if (manifest.kind !== 'box') manifests.push(manifest);
        else if (skip.includes(manifest.box.name ?? '')) continue;
        // Another home has it, or may have it: it must not run in two.
        else if ((manifest.box.epoch ?? 1) > (left.get(manifest.box.id) ?? 0)) manifests.push(manifest);
      } catch (error) {
        faults.push(faultOf(error, key));
      }
    }
  }
  return manifests;
}

async function surveyLayers(
  store: ObjectStore,
  manifest: Manifest,
  layers: Map<string, { needed: NeededLayer; index: LayerIndex }>,
  faults: string[],
  { signal }: CallOptions,
): Promise<void> {
  for (const needed of manifest.layers) {
    const { id } = needed.row;
    if (layers.get(id)?.needed.index === needed.index) continue;
    try {
      const index = await readLayerIndex(store, id, needed.index, { signal });
      const there = (await store.head(keyOf.layerData(id), { signal }))?.sizeBytes;
      if (there === dataBytes(index)) layers.set(id, { needed, index });
      else
        faults.push(
          `layer ${id} of ${titleOf(manifest)} has ${there ?? 'no'} bytes, expected ${dataBytes(index)}`,
        );
    } catch (error) {
      faults.push(faultOf(error, `layer ${id} of ${titleOf(manifest)}`));
    }
  }
}

async function surveyBlobs(
  store: ObjectStore,
  manifest: ImageManifest,
  faults: string[],
  { signal }: CallOptions,
): Promise<void> {
  for (const { digest, sizeBytes } of manifest.blobs) {
    const there = (await store.head(keyOf.blob(digest), { signal }))?.sizeBytes;
    if (there === sizeBytes) continue;
    faults.push(`blob ${digest} of ${titleOf(manifest)} has ${there ?? 'no'} bytes, expected ${sizeBytes}`);
  }
}

/** A store that is away is not one that lacks something. */
function faultOf(error: unknown, what: string): string {
  if (isCryoboxError(error, 'not_found')) return `${what} is not there`;
  if (isCryoboxError(error, 'integrity')) return `${what}: ${messageOf(error)}`;
  throw error;
}

/** How a person knows it. */
function titleOf(manifest: Manifest): string {
  if (manifest.kind === 'box') return `box ${manifest.box.name ?? ''} (${manifest.box.id})`;
  if (manifest.kind === 'template') return `template ${manifest.template.name} (${manifest.template.id})`;
  return `image ${manifest.image.reference} (${manifest.image.id})`;
}

function incomplete(store: ObjectStore, faults: readonly string[]): CryoboxError {
  const more = faults.length > shownFaults ? `, and ${faults.length - shownFaults} more` : '';
  const shown = faults.slice(0, shownFaults).join('; ');
  return new CryoboxError('integrity', `${store.name} is not whole: ${shown}${more}`, {
    hint: 'Restore what is missing from a copy of the store, or leave what needs it out with --skip ID.',
    details: { faults: faults.slice(0, 100) },
  });
}

/** The error of a place that no home was replicated to. */
export function nothingThere(store: ObjectStore): CryoboxError {
  return new CryoboxError('not_found', `no home was replicated to ${store.name}`, {
    hint: 'Name the place that `cryobox serve --replicate` was given.',
  });
}
