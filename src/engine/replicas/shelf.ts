import type { CallOptions } from '../../api/index.js';
import { allObjects, type ObjectStore, putDocument, readDocument } from '../../objects/index.js';
import type { LayerRow } from '../../store/index.js';
import type { LayerFiles } from '../layers/layer-files.js';
import { putLayer } from './layer-objects.js';
import { type BoxManifest, keyOf, type Manifest, manifestFolders, type NeededLayer } from './layout.js';

/** What this engine knows of its store: what is there, so that nothing is sent twice. One task at a time may use it. */
export class Shelf {
  readonly store: ObjectStore;
  /** Layers whose index is there, with its digest once that is known. */
  readonly layers = new Map<string, string | undefined>();
  /** Names of the blobs that are there: hex digits. */
  readonly blobs = new Set<string>();
  /** Keys of the manifests that are there. */
  readonly manifests = new Set<string>();

  private constructor(store: ObjectStore) {
    this.store = store;
  }

  /** Looks at all that is there. */
  static async open(store: ObjectStore, options: CallOptions): Promise<Shelf> {
    const shelf = new Shelf(store);
    for await (const { key } of allObjects(store, 'layers/', options)) {
      const [, id = '', name] = key.split('/');
      if (name === 'index.json') shelf.layers.set(id, undefined);
    }
    for await (const { key } of allObjects(store, 'blobs/', options))
      shelf.blobs.add(key.slice('blobs/'.length));
    for (const folder of manifestFolders) {
      for await (const { key } of allObjects(store, `${folder}/`, options)) shelf.manifests.add(key);
    }
    return shelf;
  }

  /** Whether that record of a box is there with all layers that it names. Throws `integrity` when it is damaged. */
  async hasBox(id: string, version: number, options: CallOptions): Promise<boolean> {
    if (!this.manifests.has(keyOf.box(id))) return false;
    const { value } = await readDocument(this.store, keyOf.box(id), options);
    const { layers, box } = value as BoxManifest;
    if (box.record_version !== version || !layers.every(({ row }) => this.layers.has(row.id))) return false;
    for (const { row, index } of layers) this.layers.set(row.id, index);
    return true;
  }

  /** Puts those of the layers that are not there, one after the other, and says how a manifest names them. */
  async putLayers(
    files: LayerFiles,
    rows: readonly LayerRow[],
    options: CallOptions,
  ): Promise<NeededLayer[]> {
    const needed: NeededLayer[] = [];
    for (const row of rows) needed.push({ row, index: await this.#putLayer(files, row.id, options) });
    return needed;
  }

  async #putLayer(files: LayerFiles, id: string, options: CallOptions): Promise<string> {
    const known = this.layers.get(id);
    if (known !== undefined) return known;
    const digest = this.layers.has(id)
      ? (await readDocument(this.store, keyOf.layerIndex(id), options)).digest
      : await putLayer(this.store, id, files.path(id), options);
    this.layers.set(id, digest);
    return digest;
  }

  /** Puts a manifest, all of whose layers are there. */
  async putManifest(key: string, manifest: Manifest, options: CallOptions): Promise<void> {
    await putDocument(this.store, key, manifest, options);
    this.manifests.add(key);
  }

  /** Removes manifests; what only they needed is garbage after a time. */
  async removeManifests(keys: readonly string[], options: CallOptions): Promise<void> {
    if (keys.length === 0) return;
    await this.store.remove(keys, options);
    for (const key of keys) this.manifests.delete(key);
  }
}
