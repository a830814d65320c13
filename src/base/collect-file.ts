import { CryoboxError } from '../errors.js';

/** Bytes of a file that are held at once; more is streamed. */
const maxBytes = 64 * 1024 * 1024;

/** All bytes of a file; `payload_too_large` over 64 MiB. */
export async function collectFile(path: string, source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > maxBytes) {
      throw new CryoboxError('payload_too_large', `${path} is over ${maxBytes} bytes`, {
        hint: 'Use readStream, copyOut or pack for large files.',
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
