import { chmod, chown, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ifExists } from '../base/files.js';
import { newId } from '../base/ids.js';
import { createOverlay, readHeader } from '../disk/index.js';
import type { DiskChain, DiskNode, MachineFile } from '../machine/index.js';
import { chainOf, type Database, type LayerRow } from '../store/index.js';

/** Bytes of a block of `stat` (POSIX leaves it open, Linux has 512). */
const statBlockBytes = 512;

/** Length of a head's file until something is written to it: header, refcount table and block, mapping table. */
export const emptyHeadBytes = 4 * 64 * 1024;

/** The files of a home's layers: one per row, named by its id. */
export class LayerFiles {
  readonly #directory: string;
  readonly #now: () => number;
  readonly #beingWritten = new Set<string>();

  constructor(directory: string, now: () => number = Date.now) {
    this.#directory = directory;
    this.#now = now;
  }

  /** Where a layer's file is. */
  path(id: string): string {
    return join(this.#directory, id);
  }

  /** A fresh id and row for a file that is about to be written. */
  newRow(facts: Pick<LayerRow, 'kind' | 'parent_id' | 'state' | 'virtual_bytes'>): LayerRow {
    return { id: newId('lay'), size_bytes: 0, sha256: null, created_at: this.#now(), ...facts };
  }

  /**
   * A new empty head on top of a layer, as file and row; the row is not stored yet. The file is not synced: until a
   * machine has opened it, recovery can make it again.
   */
  async newHead(parent: LayerRow, virtualBytes = parent.virtual_bytes): Promise<LayerRow> {
    const row = this.newRow({
      kind: 'qcow2',
      parent_id: parent.id,
      state: 'head',
      virtual_bytes: virtualBytes,
    });
    await this.createHeadFile(row, parent);
    return row;
  }

  /** Writes the file of a head: empty, on top of its parent. */
  async createHeadFile(row: LayerRow, parent: LayerRow): Promise<void> {
    const backing = { name: parent.id, format: parent.kind === 'raw' ? 'raw' : 'qcow2' } as const;
    await createOverlay({ path: this.path(row.id), virtualSizeBytes: row.virtual_bytes, backing });
  }

  /** Whether a file is a disk image that stands on that layer. */
  async isHeadOn(id: string, parentId: string): Promise<boolean> {
    const header = await readHeader(this.path(id)).catch(() => undefined);
    return header?.backing?.name === parentId;
  }

  /** Runs what writes a layer's file over a time and stores its row at the end. */
  async whileWriting<T>(id: string, task: () => Promise<T>): Promise<T> {
    this.#beingWritten.add(id);
    try {
      return await task();
    } finally {
      this.#beingWritten.delete(id);
    }
  }

  /** Whether a file without a row is one that will get it. */
  isBeingWritten(id: string): boolean {
    return this.#beingWritten.has(id);
  }

  /** Makes a finished file unchangeable for machines, and says how much disk it takes. */
  async seal(id: string): Promise<number> {
    const path = this.path(id);
    if (process.getuid?.() === 0) await chown(path, 0, 0);
    await chmod(path, 0o444);
    return await this.allocatedBytes(id);
  }

  /** Bytes of disk a layer's file takes; 0 when there is none. */
  async allocatedBytes(id: string): Promise<number> {
    const facts = await ifExists(stat(this.path(id)));
    return facts ? facts.blocks * statBlockBytes : 0;
  }

  /** How long ago a file was last written. */
  async ageMs(id: string): Promise<number> {
    const facts = await ifExists(stat(this.path(id)));
    return facts ? this.#now() - facts.mtimeMs : 0;
  }

  async remove(id: string): Promise<void> {
    await rm(this.path(id), { force: true });
  }

  /** A disk as a machine opens it: its nodes, and the files to put into the machine's directory. */
  async disk(db: Database, headId: string): Promise<{ chain: DiskChain; files: MachineFile[] }> {
    const rows = await chainOf(db, headId);
    const nodes = rows.map((row): DiskNode => ({ id: row.id, format: row.kind === 'raw' ? 'raw' : 'qcow2' }));
    const [base, ...rest] = nodes;
    if (!base) throw new Error(`layer ${headId} is not in the database`);
    const files = rows.map((row) => ({ path: this.path(row.id), name: row.id, writable: row.id === headId }));
    return { chain: [base, ...rest], files };
  }
}
