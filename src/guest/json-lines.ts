import type { Readable } from 'node:stream';
import type { z } from 'zod';
import { parseJson } from '../base/json.js';
import { Turns } from '../base/turns.js';
import { brokenAgent, checkedAnswer } from './answers.js';

/** A line: two names, each up to 4,096 bytes and escaped, fit. */
const maxLineBytes = 64 * 1024;
/** A line has at most eight members; agents of later releases may have some more. */
const lineBounds = { maxValues: 64, maxDepth: 4 };

/** What an operation tells in a stream, an object a line, each checked. Throws `agent_mismatch`. */
export async function* linesOf<T>(
  stream: Readable,
  schema: z.ZodType<T>,
  op: string,
): AsyncGenerator<T, void> {
  const turns = new Turns();
  let rest = Buffer.alloc(0);
  for await (const chunk of stream) {
    const bytes: Buffer = Buffer.concat([rest, chunk as Buffer]);
    let start = 0;
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      yield checkedAnswer(schema, parsed(bytes.toString('utf8', start, end), op), op);
      start = end + 1;
      await turns.step();
    }
    await turns.step();
    rest = Buffer.from(bytes.subarray(start));
    if (rest.length > maxLineBytes) throw brokenAgent(`a line of ${op} is beyond ${maxLineBytes} bytes`);
  }
}

function parsed(line: string, op: string): unknown {
  try {
    return parseJson(line, lineBounds);
  } catch (cause) {
    throw brokenAgent(`a line of ${op} is not JSON, or holds too much`, cause);
  }
}
