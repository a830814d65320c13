import { CryoboxError } from '../../errors.js';
import type { BoxRow, LayerRow } from '../../store/index.js';
import type { LayerFiles } from '../layers/layer-files.js';
import type { BoxManifest } from './layout.js';

const bytesPerGb = 1024 ** 3;

/** The row of a box that comes back, and its heads: empty, on what it comes back from. Files and rows; nothing is stored yet. */
export async function withHeads(
  { box, disks }: BoxManifest,
  layers: ReadonlyMap<string, LayerRow>,
  files: LayerFiles,
): Promise<{ readonly row: BoxRow; readonly heads: readonly LayerRow[] }> {
  const guest = await files.newHead(requireBase(layers, box, disks.guest));
  const base = requireBase(layers, box, disks.disk);
  // The disk of a memory has the size that its machine knows; another one grows when the box starts.
  const grown = Math.max(base.virtual_bytes, box.disk_size_gb * bytesPerGb);
  const disk = await files.newHead(base, box.memory_id === null ? grown : base.virtual_bytes);
  return { row: { ...box, guest_head: guest.id, disk_head: disk.id, in_use: 0 }, heads: [guest, disk] };
}

function requireBase(layers: ReadonlyMap<string, LayerRow>, box: BoxManifest['box'], id: string): LayerRow {
  const layer = layers.get(id);
  if (layer) return layer;
  throw new CryoboxError(
    'integrity',
    `the record of box ${box.name ?? ''} (${box.id}) lacks its layer ${id}`,
  );
}
