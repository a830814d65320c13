import { promisify } from 'node:util';
import { inflateRaw } from 'node:zlib';
import { runProcess } from '../../base/process/index.js';
import { messageOf } from '../../errors.js';
import { CLUSTER_BYTES, invalidImage } from './format.js';
import type { CompressionType } from './header.js';

const inflate = promisify(inflateRaw);

/** A zstd process unpacks at most a few MiB; longer than this it hangs. */
const ZSTD_LIMIT_MS = 30_000;
const ZSTD_MAGIC = 0xfd2fb528;

/**
 * Unpacks compressed clusters. Each input may be followed by bytes that do not belong to it; each output is one
 * cluster. `what` names the image in errors. Throws `disk_image_invalid`, `config_error` when the zstd command is
 * missing, `resource_exhausted` when it cannot be started, `timeout`.
 */
export async function decompressClusters(
  type: CompressionType,
  inputs: readonly Buffer[],
  what: string,
): Promise<Buffer[]> {
  const outputs =
    type === 'zstd'
      ? await unpackZstd(inputs, what)
      : await Promise.all(inputs.map((input) => unpackDeflate(input, what)));
  if (outputs.some((output) => output.length !== CLUSTER_BYTES)) {
    throw invalidImage(what, 'a compressed cluster is not 64 KiB long');
  }
  return outputs;
}

async function unpackDeflate(input: Buffer, what: string): Promise<Buffer> {
  try {
    return await inflate(input, { maxOutputLength: CLUSTER_BYTES });
  } catch (error) {
    throw invalidImage(what, `a compressed cluster cannot be unpacked: ${messageOf(error)}`, error);
  }
}

/** One process for all inputs, because Node 20 has no zstd and starting a process costs more than unpacking. */
async function unpackZstd(inputs: readonly Buffer[], what: string): Promise<Buffer[]> {
  const frames = Buffer.concat(inputs.map((input) => zstdFrame(input, what)));
  const bytes = inputs.length * CLUSTER_BYTES;
  const { code, signal, stdout, stderr, truncated } = await runProcess('zstd', {
    args: ['-dcq', '--memory=8MB'],
    input: frames,
    maxOutputBytes: bytes,
    timeoutMs: ZSTD_LIMIT_MS,
  });
  if (truncated || (code === 0 && stdout.length !== bytes)) {
    throw invalidImage(what, 'a compressed cluster is not 64 KiB long');
  }
  if (code !== 0) {
    throw invalidImage(
      what,
      `a compressed cluster cannot be unpacked: ${stderr || `zstd ended with ${signal ?? code}`}`,
    );
  }
  return inputs.map((_, i) => stdout.subarray(i * CLUSTER_BYTES, (i + 1) * CLUSTER_BYTES));
}

/**
 * The zstd frame at the start of a buffer: a cluster's data is padded to sectors, which the command would take for
 * another frame. Source: RFC 8878, sections 3.1.1 "Zstandard Frames" and 3.1.1.2 "Blocks".
 */
function zstdFrame(input: Buffer, what: string): Buffer {
  if (input.length < 6 || input.readUInt32LE(0) !== ZSTD_MAGIC) {
    throw invalidImage(what, 'a compressed cluster is not a zstd frame');
  }
  const descriptor = input.readUInt8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentSizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  let at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  for (let last = false; !last; ) {
    if (at + 3 > input.length) throw invalidImage(what, 'a zstd cluster is cut short');
    const block = input.readUIntLE(at, 3);
    last = (block & 1) !== 0;
    const runLengthEncoded = ((block >> 1) & 3) === 1;
    at += 3 + (runLengthEncoded ? 1 : block >> 3);
  }
  if (descriptor & 4) at += 4;
  if (at > input.length) throw invalidImage(what, 'a zstd cluster is cut short');
  return input.subarray(0, at);
}
