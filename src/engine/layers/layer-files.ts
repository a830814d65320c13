import { statSync } from 'node:fs';
import { chmod, chown, rename, rm } from 'node:fs/promises';
import { faultPoint } from '../../base/faults.js';
import { syncDirectory, syncFile } from '../../base/files.js';
import { newId } from '../../base/ids.js';
import { createOverlay, readHeader, renameBacking, setBacking } from '../../formats/qcow2/index.js';
import type { DiskChain, DiskNode, MachineFile } from '../../machine/index.js';
import { chainOf, type Database, type LayerRow } from '../../store/index.js';

/** Bytes of a block of `stat` (POSIX leaves it open, Linux has 512). */
const statBlockBytes = 512;

/** Length of a head's file until something is written to it: header, refcount table and block, mapping table. */
export const emptyHeadBytes = 4 * 64 * 1024;

/** The files of a home's layers: one per row, named by its id. */
export class LayerFiles {
  readonly #directory: string;
  readonly #now: () => number;
  /** Ids given out by this engine whose rows may not be stored yet. */
  readonly #pending = new Set<string>();

  constructor(directory: string, now: () => number = Date.now) {
    this.#directory = directory;
    this.#now = now;
  }

  /** Where a layer's file is. */
  path(id: string): string {
    // Names need no normalizing, and a list of boxes asks for thousands of paths.
    return `${this.#directory}/${id}`;
  }

  /** A fresh id and row for a file that is about to be written. */
  newRow(facts: Pick<LayerRow, 'kind' | 'parent_id' | 'state' | 'virtual_bytes'>): LayerRow {
    const id = newId('lay');
    this.#pending.add(id);
    return { id, size_bytes: 0, sha256: null, created_at: this.#now(), ...facts };
  }

  /** Whether a file that has no row is being made by this engine. */
  isPending(id: string): boolean {
    return this.#pending.has(id);
  }

  /** Forgets ids whose rows are stored. */
  settle(ids: Iterable<string>): void {
    for (const id of ids) this.#pending.delete(id);
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
    faultPoint('head.create:before');
    const backing = backingOf(parent);
    await createOverlay({ path: this.path(row.id), virtualSizeBytes: row.virtual_bytes, backing });
    faultPoint('head.create:after');
  }

  /**
   * Makes the header of a file name its parent. Only for what tools show: the engine goes by the database. `open`: a
   * machine has the file open, so nothing but the name is touched.
   */
  async nameParent(id: string, parent: LayerRow, open: boolean): Promise<void> {
    if (open) await renameBacking(this.path(id), parent.id);
    else await setBacking(this.path(id), backingOf(parent), { durable: true });
  }

  /** Takes a finished, durable file from elsewhere in the home in as a layer; `sync` the folder afterwards. */
  async publish(row: LayerRow, from: string): Promise<LayerRow> {
    faultPoint('layer.publish:before');
    await rename(from, this.path(row.id));
    faultPoint('layer.publish:after');
    return { ...row, size_bytes: await this.seal(row.id) };
  }

  /** Makes files and their names durable. */
  async sync(ids: readonly string[]): Promise<void> {
    await Promise.all([...ids.map((id) => syncFile(this.path(id))), syncDirectory(this.#directory)]);
  }

  /** Whether a file is a disk image that stands on that layer. */
  async isHeadOn(id: string, parentId: string): Promise<boolean> {
    const header = await readHeader(this.path(id)).catch(() => undefined);
    return header?.backing?.name === parentId;
  }

  /** Makes a finished file unchangeable for machines, and says how much disk it takes. */
  async seal(id: string): Promise<number> {
    const path = this.path(id);
    faultPoint('layer.seal:before');
    if (process.getuid?.() === 0) await chown(path, 0, 0);
    await chmod(path, 0o444);
    faultPoint('layer.seal:after');
    return await this.allocatedBytes(id);
  }

  /** Bytes of disk a layer's file takes; 0 when there is none. */
  async allocatedBytes(id: string): Promise<number> {
    // On this thread: it takes microseconds, a trip to the thread pool milliseconds where the processors are busy.
    const facts = statSync(this.path(id), { throwIfNoEntry: false });
    return facts ? facts.blocks * statBlockBytes : 0;
  }

  async remove(id: string): Promise<void> {
    faultPoint('layer.remove:before');
    await rm(this.path(id), { force: true });
    faultPoint('layer.remove:after');
    this.#pending.delete(id);
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

function backingOf(parent: LayerRow): { name: string; format: 'raw' | 'qcow2' } {
  return { name: parent.id, format: parent.kind === 'raw' ? 'raw' : 'qcow2' };
}
