/** What an image may cost before it is refused. Images are untrusted: each number bounds memory, disk or time. */
export interface ImageLimits {
  /** Layers of an image; the container tools' own limit. */
  readonly maxLayers: number;
  /** Files, directories and links of all layers together: each takes about 300 bytes of memory until the disk is written. */
  readonly maxEntries: number;
  /** Device nodes of all layers together: real images carry a dozen, more is an attack on whoever walks the disk. */
  readonly maxDevices: number;
  /** Length of one file, holes included. */
  readonly maxFileBytes: number;
  /** Unpacked length of all layers together, holes included: what a compressed bomb can make us read. */
  readonly maxTotalBytes: number;
  /** Length of a manifest, index or config, which are held in memory. */
  readonly maxDocumentBytes: number;
}

const gibibyte = 1024 ** 3;

/** The limits when the caller names none. */
export const defaultLimits: ImageLimits = {
  maxLayers: 127,
  maxEntries: 500_000,
  maxDevices: 4096,
  maxFileBytes: 64 * gibibyte,
  maxTotalBytes: 100 * gibibyte,
  maxDocumentBytes: 4 * 1024 * 1024,
};
