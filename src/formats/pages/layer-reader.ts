/**
 * Where a layer's bytes come from. One implementation reads local files; a layer kept elsewhere is another one. A
 * reader belongs to one layer, whose data never changes, so what was read and verified once stays right.
 */
export interface LayerReader {
  /**
   * Fills `target` with the data file's content from `offset`.
   * @throws integrity when the data is shorter than its map says, or does not match its hash.
   * @throws storage_error when it cannot be read; cancelled when `signal` fires first.
   */
  read(target: Buffer, offset: number, signal?: AbortSignal): Promise<void>;
  /**
   * The same at once and without verification, where the data is local. Enough to compare with: equal bytes are equal
   * whatever the hash says.
   */
  readSync?(target: Buffer, offset: number): void;
  /**
   * Verifies what a later `read` of this range would verify, where the reader verifies at all.
   * @throws as `read` does.
   */
  warm?(offset: number, length: number): Promise<void>;
  /** Lets go of files or connections; more than once is fine. */
  close(): Promise<void>;
}

/** Opens the layer of an id. @throws not_found or integrity when there is no such layer. */
export type OpenLayer = (layerId: string) => Promise<LayerReader>;
