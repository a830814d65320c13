import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { CallOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import type { Logger } from '../../base/log.js';
import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import { openLayers } from '../../formats/qcow2/index.js';
import { type Database, type LayerRow, layersWithoutHash, setHash } from '../../store/index.js';
import type { LayerFiles } from './layer-files.js';

/** Hashing waits until what sealed the layers is long over. */
const delayMs = 30_000;
/** Small pieces: hashing one takes 200 microseconds of the engine's time, then others have their turn. */
const pieceBytes = 256 * 1024;

/** What raw layers are hashed by. */
const blockBytes = 64 * 1024;
const zeros = Buffer.alloc(blockBytes);

interface HashOptions extends CallOptions {
  readonly onBytes?: (bytes: number) => void;
}

interface HasherNeeds {
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly logger: Logger;
}

/** Gives sealed layers their hashes, in the background: from then on a changed byte is found by `verify`. */
export class LayerHasher {
  readonly #needs: HasherNeeds;
  readonly #mutex = new Mutex();
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(needs: HasherNeeds) {
    this.#needs = needs;
  }

  /** Hashes what has no hash in a while. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.run({ signal: this.#closing.signal }).catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        this.#needs.logger.warn('cannot hash a layer', { reason: messageOf(error) });
      });
    }, delayMs).unref();
  }

  /** Hashes what has no hash now. */
  async run(options: CallOptions = {}): Promise<void> {
    await this.#mutex.run(async () => {
      for (const row of await layersWithoutHash(this.#needs.db)) await this.#record(row, options);
    });
  }

  /** Hash of a layer as it is now, in hex; see the schema for what is hashed. Throws as reading files does. */
  async hash(row: LayerRow, options: HashOptions = {}): Promise<string> {
    const path = this.#needs.layers.path(row.id);
    return row.kind === 'raw' || row.kind === 'memory-flat'
      ? await hashBlocks(path, options)
      : await hashFile(path, options);
  }

  async #record(row: LayerRow, options: CallOptions): Promise<void> {
    const sha256 = await this.hash(row, options);
    await setHash(this.#needs.db, row.id, sha256);
  }

  /** Gives up what is under way. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closing.abort();
    await this.#mutex.run(async () => undefined);
  }
}

async function hashFile(path: string, { signal, onBytes }: HashOptions): Promise<string> {
  const hash = createHash('sha256');
  const stream = createReadStream(path, { highWaterMark: pieceBytes, signal });
  for await (const piece of stream as AsyncIterable<Buffer>) {
    hash.update(piece);
    onBytes?.(piece.length);
  }
  return hash.digest('hex');
}

/** Most of these files is holes: hashing 10 GiB of zeros would take ten seconds. */
async function hashBlocks(path: string, { signal, onBytes }: HashOptions): Promise<string> {
  const hash = createHash('sha256');
  const number = Buffer.alloc(8);
  await using file = await openLayers([{ name: path, format: 'raw', path }]);
  for await (const { kind, offset, length } of file.mapRanges()) {
    if (kind !== 'data') continue;
    for (let at = offset; at < offset + length; at += pieceBytes) {
      throwIfCancelled(signal, 'hashing');
      const piece = await file.read(at, Math.min(pieceBytes, offset + length - at));
      onBytes?.(piece.length);
      for (let from = 0; from < piece.length; from += blockBytes) {
        const block = piece.subarray(from, from + blockBytes);
        if (block.equals(zeros.subarray(0, block.length))) continue;
        number.writeBigUInt64LE(BigInt((at + from) / blockBytes));
        hash.update(number).update(block);
      }
    }
  }
  return hash.digest('hex');
}
