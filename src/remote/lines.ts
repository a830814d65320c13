import type { ByteSource, Progress } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { errorFromJson } from '../wire/error.js';
import { asObject, type JsonObject } from '../wire/json.js';
import { progressFromJson } from '../wire/runtime.js';

/** Longest line of JSON: the whole answer of a create, with its environment. */
const maxLineBytes = 4 * 1024 * 1024;

/** The objects of a stream of JSON lines; empty lines are heartbeats. */
export async function* jsonLines(source: ByteSource): AsyncGenerator<JsonObject> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of source) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      const line = rest.subarray(0, at).toString('utf8').trim();
      rest = rest.subarray(at + 1);
      if (line !== '') yield asObject(JSON.parse(line), 'line');
    }
    if (rest.length > maxLineBytes) {
      throw new CryoboxError(
        'payload_too_large',
        `A line of the answer is longer than ${maxLineBytes} bytes`,
      );
    }
  }
}

/** The result of a long operation whose answer tells its progress first. */
export async function resultOfLines(
  lines: AsyncIterable<JsonObject>,
  onProgress: (progress: Progress) => void,
): Promise<unknown> {
  for await (const line of lines) {
    if (line['type'] === 'progress') onProgress(progressFromJson(line));
    else if (line['type'] === 'error') throw errorFromJson(asObject(line['error'], 'error'), 500);
    else if (line['type'] === 'result') return line['result'];
  }
  // As good as a connection that broke.
  const cause = Object.assign(new Error('the answer ended'), { code: 'ECONNRESET' });
  throw new CryoboxError('upstream_unavailable', 'The answer ended before its result', { cause });
}
