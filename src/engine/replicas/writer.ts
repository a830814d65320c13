import { newId } from '../../base/ids.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import { allObjects, type ObjectStore, putDocument, readDocument } from '../../objects/index.js';
import { keyOf, type StoreDocument, storeFormat, type WriterDocument } from './layout.js';

/** The store, and the number under which this engine writes to it. */
export interface Claim {
  readonly store: string;
  readonly number: number;
}

/** Which store it is; undefined for a place where none was begun. Throws `config_error` for one of another format. */
export async function storeId(store: ObjectStore): Promise<string | undefined> {
  try {
    const { value } = await readDocument(store, keyOf.store);
    const { kind, format, id } = value as StoreDocument;
    if (kind === 'cryobox-store' && format === storeFormat) return id;
    throw new CryoboxError('config_error', `${store.name} has format ${format}, expected ${storeFormat}`, {
      hint: 'Use the release that wrote it, or a newer one.',
    });
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return undefined;
    throw error;
  }
}

/**
 * Becomes the writer of a store. Numbers only grow, and one of many gets each: who has been overtaken sees it. Throws
 * `config_error` when another home writes there, unless that one is to be replaced.
 */
export async function claimStore(
  store: ObjectStore,
  home: string,
  { replace }: { readonly replace: boolean },
): Promise<Claim> {
  const id = (await storeId(store)) ?? (await beginStore(store));
  const last = await lastWriter(store);
  if (last) {
    const { value } = await readDocument(store, keyOf.writer(last));
    const other = (value as WriterDocument).home;
    if (other !== home && !replace) throw otherHome(store, other);
  }
  const writer: WriterDocument = { home, at: new Date().toISOString(), run: newId('run') };
  await putDocument(store, keyOf.writer(last + 1), writer, { ifAbsent: true });
  return { store: id, number: last + 1 };
}

/** Whether nobody else has become the writer since. */
export async function holdsClaim(store: ObjectStore, claim: Claim): Promise<boolean> {
  return (await lastWriter(store)) === claim.number;
}

/** What an engine that was overtaken ends its replication with: two of them would overtake each other for ever. */
export function overtaken(store: ObjectStore): CryoboxError {
  return new CryoboxError('config_error', `another engine has begun to write to ${store.name}`, {
    hint: 'Give each home a place of its own in the store, then start this engine again.',
  });
}

async function beginStore(store: ObjectStore): Promise<string> {
  const document: StoreDocument = { kind: 'cryobox-store', format: storeFormat, id: newId('opn') };
  try {
    await putDocument(store, keyOf.store, document, { ifAbsent: true });
    return document.id;
  } catch (error) {
    if (!isCryoboxError(error, 'already_exists')) throw error;
    return (await storeId(store)) ?? document.id;
  }
}

/** Number of the latest writer; 0: none yet. */
async function lastWriter(store: ObjectStore): Promise<number> {
  let last = 0;
  for await (const { key } of allObjects(store, 'writers/')) last = Math.max(last, Number(key.slice(8, 16)));
  return last;
}

function otherHome(store: ObjectStore, home: string): CryoboxError {
  return new CryoboxError('config_error', `${store.name} holds what another home (${home}) replicates`, {
    hint: 'Name another place, or bring that home back into an empty one with `cryobox recover`.',
    details: { home },
  });
}
