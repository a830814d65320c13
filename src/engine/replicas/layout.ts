import { isId } from '../../base/ids.js';
import type { BoxRow, HeldMemory, ImageRow, LayerRow, SnapshotRow, TemplateRow } from '../../store/index.js';

/** Version of everything in a store; another one is refused. */
export const storeFormat = 1;

/** Where everything of a home lies in its store. */
export const keyOf = {
  store: 'store.json',
  garbage: 'garbage.json',
  writer: (number: number) => `writers/${pad(number)}.json`,
  layerData: (id: string) => `layers/${id}/data`,
  layerIndex: (id: string) => `layers/${id}/index.json`,
  blob: (digest: string) => `blobs/${digest.slice('sha256:'.length)}`,
  box: (id: string) => `boxes/${id}.json`,
  template: (id: string) => `templates/${id}.json`,
  image: (id: string) => `images/${id}.json`,
  /** The manifest of a box that has left its home, until another has it. */
  released: (id: string, epoch: number) => `released/${id}/${pad(epoch)}.json`,
  /** Says which home has got it: one of all that try can put it, and it stays. */
  taken: (id: string, epoch: number) => `taken/${id}/${pad(epoch)}.json`,
} as const;

/** Numbers in keys are as long as each other: keys are listed in their order. */
function pad(number: number): string {
  return String(number).padStart(8, '0');
}

/** The box and the epoch that a key of `released` or `taken` names; undefined for another key. */
export function departureOf(key: string): { readonly id: string; readonly epoch: number } | undefined {
  const [, id = '', number = ''] = /^(?:released|taken)\/([^/]+)\/(\d{8})\.json$/.exec(key) ?? [];
  return isId('box', id) ? { id, epoch: Number(number) } : undefined;
}

/** Which home has got a box. */
export interface TakenDocument {
  readonly home: string;
  readonly at: string;
}

/** Folders of what a home comes back from. */
export const manifestFolders = ['boxes', 'templates', 'images'] as const;

/** Says which store it is. */
export interface StoreDocument {
  readonly kind: 'cryobox-store';
  readonly format: number;
  readonly id: string;
}

/** Says which home writes to the store: the one with the highest number. */
export interface WriterDocument {
  readonly home: string;
  readonly at: string;
  /** Of this start of its engine. */
  readonly run: string;
}

/** A layer as an object: the stretches of its file that hold data, one after the other. */
export interface LayerIndex {
  readonly id: string;
  /** Size of the file, holes included. */
  readonly fileBytes: number;
  /** Offset and length of each stretch, in order. */
  readonly stretches: readonly (readonly [number, number])[];
  /** SHA-256 of each MiB of the data. */
  readonly pieces: readonly string[];
}

/** A layer that a manifest needs, and the digest of its index. */
export interface NeededLayer {
  readonly row: LayerRow;
  readonly index: string;
}

interface AnyManifest {
  readonly format: number;
  readonly layers: readonly NeededLayer[];
}

/** What a box comes back from. */
export interface BoxManifest extends AnyManifest {
  readonly kind: 'box';
  readonly box: BoxRow;
  /** What its new heads stand on. */
  readonly disks: { readonly guest: string; readonly disk: string };
  readonly snapshots: readonly SnapshotRow[];
  readonly memories: readonly HeldMemory[];
}

/** What a template comes back from. */
export interface TemplateManifest extends AnyManifest {
  readonly kind: 'template';
  readonly template: TemplateRow;
  readonly memories: readonly HeldMemory[];
}

/** What an image comes back from. */
export interface ImageManifest extends AnyManifest {
  readonly kind: 'image';
  readonly image: ImageRow;
  readonly disks: readonly { readonly size_gb: number; readonly layer_id: string }[];
  readonly blobs: readonly { readonly digest: string; readonly sizeBytes: number }[];
}

/** What something comes back from. */
export type Manifest = BoxManifest | TemplateManifest | ImageManifest;

/** What the layers of a store are noted to be needed no more, and since when, in milliseconds since 1970. */
export type GarbageDocument = Readonly<Record<string, number>>;
