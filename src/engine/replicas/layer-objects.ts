import { type FileHandle, open, rm } from 'node:fs/promises';
import type { CallOptions } from '../../api/index.js';
import { faultPoint } from '../../base/faults.js';
import { readFully, writeFully } from '../../base/files.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { findDataRanges } from '../../formats/qcow2/index.js';
import {
  indexOf,
  type ObjectSource,
  type ObjectStore,
  putDocument,
  readDocument,
  readPieces,
} from '../../objects/index.js';
import { keyOf, type LayerIndex } from './layout.js';

type Stretches = LayerIndex['stretches'];

/**
 * Puts a file that does not change as the object of a layer: the data first, then the index, so that a layer with an index
 * is whole. Returns the digest of the index.
 */
export async function putLayer(
  store: ObjectStore,
  id: string,
  path: string,
  { signal }: CallOptions,
): Promise<string> {
  const file = await open(path, 'r').catch((error: unknown) => {
    throw wrapHostError(error, `reading layer ${id}`);
  });
  try {
    const { size } = await file.stat();
    const found = await findDataRanges(path);
    const stretches: Stretches = found?.map(({ offset, length }) => [offset, length]) ?? [[0, size]];
    const source = sourceOf(
      file,
      stretches.filter(([, length]) => length > 0),
    );
    const { pieces } = await indexOf(source);
    faultPoint('replica.layer:before');
    await store.put(keyOf.layerData(id), source, { signal });
    faultPoint('replica.layer:after');
    const index: LayerIndex = { id, fileBytes: size, stretches, pieces };
    const digest = await putDocument(store, keyOf.layerIndex(id), index, { signal });
    faultPoint('replica.index:after');
    return digest;
  } finally {
    await file.close();
  }
}

/** The stretches of a file, one after the other. */
function sourceOf(file: FileHandle, stretches: Stretches): ObjectSource {
  const starts: number[] = [];
  let sizeBytes = 0;
  for (const [, length] of stretches) {
    starts.push(sizeBytes);
    sizeBytes += length;
  }
  const read = async (offset: number, length: number): Promise<Buffer> => {
    const bytes = Buffer.allocUnsafe(length);
    let done = 0;
    for (let at = stretchAt(starts, offset); done < length; at += 1) {
      const [from = 0, long = 0] = stretches[at] ?? [];
      const skip = offset + done - (starts[at] ?? 0);
      const target = bytes.subarray(done, done + Math.min(long - skip, length - done));
      if (target.length === 0 || (await readFully(file, target, from + skip)) < target.length) {
        throw new CryoboxError('storage_error', 'a layer became shorter while it was copied');
      }
      done += target.length;
    }
    return bytes;
  };
  return { sizeBytes, read };
}

/** Number of the stretch that a byte of the data lies in. */
function stretchAt(starts: readonly number[], offset: number): number {
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((starts[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Reads the index of a layer. Throws `integrity` when it is not the one that a manifest names, `not_found`. */
export async function readLayerIndex(
  store: ObjectStore,
  id: string,
  digest: string,
  options: CallOptions,
): Promise<LayerIndex> {
  const document = await readDocument(store, keyOf.layerIndex(id), options);
  if (document.digest === digest) return document.value as LayerIndex;
  throw new CryoboxError(
    'integrity',
    `the index of layer ${id} in ${store.name} is another one than was put`,
    {
      details: { layer: id },
    },
  );
}

/** Bytes of the object of a layer. */
export function dataBytes({ stretches }: LayerIndex): number {
  return stretches.reduce((sum, [, length]) => sum + length, 0);
}

/** Writes the file of a layer, verified piece by piece, and makes it durable. Nothing is left of it when that fails. */
export async function fetchLayer(
  store: ObjectStore,
  index: LayerIndex,
  path: string,
  { signal }: CallOptions,
): Promise<void> {
  const pieces = { sizeBytes: dataBytes(index), pieces: index.pieces };
  try {
    const file = await open(path, 'w', 0o600);
    try {
      await file.truncate(index.fileBytes);
      let [at, done, written] = [0, 0, 0];
      for await (const piece of readPieces(store, keyOf.layerData(index.id), pieces, { signal })) {
        for (let rest = piece; rest.length > 0; ) {
          const stretch = index.stretches[at];
          if (!stretch) throw otherPieces(index);
          const [from, length] = stretch;
          const part = rest.subarray(0, length - done);
          if (part.length > 0) await writeFully(file, part, from + done);
          rest = rest.subarray(part.length);
          done += part.length;
          written += part.length;
          if (done < length) continue;
          at += 1;
          done = 0;
        }
      }
      if (written !== pieces.sizeBytes) throw otherPieces(index);
      await file.sync();
    } finally {
      await file.close();
    }
    faultPoint('recover.layer:after');
  } catch (error) {
    await rm(path, { force: true });
    throw wrapHostError(error, `bringing layer ${index.id} back`);
  }
}

function otherPieces({ id }: LayerIndex): CryoboxError {
  return new CryoboxError('integrity', `the index of layer ${id} has other pieces than stretches`, {
    details: { layer: id },
  });
}
