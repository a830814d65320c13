import type { CallOptions } from '../../api/index.js';
import { faultPoint } from '../../base/faults.js';
import { type DiskChain, flatten, type KnownLayer, openLayers } from '../../formats/qcow2/index.js';
import { chainOf, type LayerRow } from '../../store/index.js';
import type { LayersContext } from './context.js';

/** The files of a chain of layers (the base first), the top first. */
export function knownLayers(ctx: Pick<LayersContext, 'layers'>, chain: readonly LayerRow[]): KnownLayer[] {
  return chain.toReversed().map(({ id, kind }) => ({
    name: id,
    format: kind === 'raw' ? 'raw' : 'qcow2',
    path: ctx.layers.path(id),
  }));
}

/** Opens the disk that a layer is the top of, for reading; the database knows what is under it. The caller closes it. */
export async function openDisk(ctx: LayersContext, layerId: string): Promise<DiskChain> {
  return await openLayers(knownLayers(ctx, await chainOf(ctx.db, layerId)));
}

/** Writes a disk as one layer that needs no other; the file is durable, the row not stored yet. */
export async function copyDisk(ctx: LayersContext, layer: LayerRow, options: CallOptions): Promise<LayerRow> {
  const row = ctx.layers.newRow({
    kind: 'qcow2',
    parent_id: null,
    state: 'sealed',
    virtual_bytes: layer.virtual_bytes,
  });
  const chain = await openDisk(ctx, layer.id);
  try {
    faultPoint('layer.write:before');
    await flatten({ chain, path: ctx.layers.path(row.id), durable: true, signal: options.signal });
    faultPoint('layer.write:after');
    return { ...row, size_bytes: await ctx.layers.seal(row.id) };
  } catch (error) {
    await ctx.layers.remove(row.id);
    throw error;
  } finally {
    await chain.close();
  }
}
