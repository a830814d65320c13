import type { Socket } from 'node:net';
import { CryoboxError } from '../../errors.js';
import { PAGE_BYTES } from '../qemu-stream/format.js';
import { SocketSink } from '../qemu-stream/sink.js';
import { StreamWriter } from '../qemu-stream/stream-writer.js';
import { EXTENT_WORDS, extentAt, ZERO } from './extents.js';
import { differenceFrom, FLAT_ABOVE_BYTES, type LayerMap, MAX_GENERATION, measure } from './layer-map.js';
import type { MemoryImage } from './memory-image.js';

/** Pages read at once on the way into QEMU: 256 KiB, one write of the encoder. */
const pagesPerRead = 64;

/** Which flat layer to map, and what must be streamed over it. */
export interface ResumePlan {
  /** Id of the flat layer whose data file QEMU maps (`share=off`) as its RAM. */
  readonly baseLayerId: string;
  readonly base: LayerMap;
  /** Per block the extents to send, numbered by the target map's layers. */
  readonly extents: readonly Uint32Array[];
  /** Bytes of page data to send. */
  readonly streamBytes: number;
}

/**
 * Finds the flat layer nearest to `target`: the one over which the least must be streamed.
 * @throws integrity when no candidate has the target's RAM size.
 */
export function planResume(target: LayerMap, candidates: readonly LayerMap[]): ResumePlan {
  let best: ResumePlan | undefined;
  for (const map of candidates) {
    const fits = map.form === 'flat' && map.blocks[0]?.sizeBytes === target.blocks[0]?.sizeBytes;
    const baseLayerId = map.layers[0];
    if (!fits || baseLayerId === undefined) continue;
    const extents = differenceFrom(target, map);
    const streamBytes = measure(extents).dataBytes;
    if (!best || streamBytes < best.streamBytes) best = { baseLayerId, base: map, extents, streamBytes };
  }
  if (best) return best;
  throw new CryoboxError(
    'integrity',
    `memory layer ${target.layers[0]}: no flat layer of its size is there to map`,
  );
}

/** Whether a background merge should make one layer of `target`: it is deep, or its resume streams a lot. */
export function wantsMerge(target: LayerMap, plan: ResumePlan): boolean {
  return target.generation >= MAX_GENERATION || plan.streamBytes > FLAT_ABOVE_BYTES;
}

/** What went into QEMU. */
export interface ResumeResult {
  readonly pages: number;
  readonly zeroPages: number;
  readonly streamedBytes: number;
}

/**
 * Writes a machine's difference and device state into a QEMU that maps `plan.baseLayerId` and waits with
 * `-incoming defer`, without `x-ignore-shared`. The caller waits for QMP's word that the migration completed, sends
 * `cont`, and closes the socket.
 * @throws integrity when a layer is damaged: the machine must then be killed; machine_failed when QEMU stops reading.
 */
export async function writeResumeStream(options: {
  socket: Socket;
  machineType: string;
  image: MemoryImage;
  plan: ResumePlan;
  deviceSections: Buffer;
  signal?: AbortSignal;
}): Promise<ResumeResult> {
  const { image, signal } = options;
  const sink = new SocketSink(options.socket);
  const writer = new StreamWriter({ sink, machineType: options.machineType, blocks: image.blocks });
  await writer.begin();
  const buffer = Buffer.allocUnsafe(pagesPerRead * PAGE_BYTES);
  let pages = 0;
  let zeroPages = 0;
  for (const [block, extents] of options.plan.extents.entries()) {
    for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
      const { startPage, pageCount, layer } = extentAt(extents, index);
      if (layer === ZERO) {
        await writer.zeros(block, startPage, pageCount);
        zeroPages += pageCount;
        continue;
      }
      for (let done = 0; done < pageCount; done += pagesPerRead) {
        const count = Math.min(pagesPerRead, pageCount - done);
        const data = buffer.subarray(0, count * PAGE_BYTES);
        await image.read(block, startPage + done, count, data, signal);
        await writer.pages(block, startPage + done, count, data);
      }
      pages += pageCount;
    }
  }
  await writer.finish(options.deviceSections);
  return { pages, zeroPages, streamedBytes: sink.bytesWritten };
}
