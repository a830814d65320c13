import type { CallOptions } from '../../api/index.js';
import { type DiskChain, flatten, openChain } from '../../disk/index.js';
import type { LayerRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';

/** Opens the disk that a layer is the top of, for reading. The caller closes it. */
export async function openDisk(ctx: EngineContext, layer: LayerRow): Promise<DiskChain> {
  const topFormat = layer.kind === 'raw' ? 'raw' : 'qcow2';
  return await openChain({ top: layer.id, topFormat, directory: ctx.paths.layers });
}

/** Writes a disk as one layer that needs no other; the file is durable, the row is added to `made` and not stored. */
export async function copyDisk(
  ctx: EngineContext,
  layer: LayerRow,
  options: CallOptions,
  made: LayerRow[],
): Promise<LayerRow> {
  const row = ctx.layers.newRow({
    kind: 'qcow2',
    parent_id: null,
    state: 'sealed',
    virtual_bytes: layer.virtual_bytes,
  });
  const chain = await openDisk(ctx, layer);
  try {
    await flatten({ chain, path: ctx.layers.path(row.id), durable: true, signal: options.signal });
  } finally {
    await chain.close();
  }
  const sealed = { ...row, size_bytes: await ctx.layers.seal(row.id) };
  made.push(sealed);
  return sealed;
}
