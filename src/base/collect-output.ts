import { CryoboxError } from '../errors.js';

/** What `exec` holds of one stream at most: more belongs into a file or a streaming execution. */
const maxOutputBytes = 64 * 1024 * 1024;

/** Who gets output as it comes; no more is read until what it gives has settled. */
export interface OutputListener {
  take(chunk: Uint8Array): Promise<void>;
  end(): Promise<void>;
}

/** All bytes of a command's stdout or stderr; `resource_exhausted` when there are more than 64 MiB. */
export async function collectOutput(
  name: string,
  source: AsyncIterable<Uint8Array>,
  listener?: OutputListener,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > maxOutputBytes) {
      throw new CryoboxError(
        'resource_exhausted',
        `the command wrote more than ${maxOutputBytes} bytes to ${name}`,
        {
          hint: 'Use startExec and read the stream, or write to a file and copy it out.',
          details: { limitBytes: maxOutputBytes },
        },
      );
    }
    chunks.push(chunk);
    await listener?.take(chunk);
  }
  await listener?.end();
  return Buffer.concat(chunks);
}
