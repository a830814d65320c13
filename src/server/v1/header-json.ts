import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { parseJson } from '../../base/json.js';
import { CryoboxError } from '../../errors.js';

const texts = z.record(z.string(), z.string());
/** A header has less than 16 KiB. */
const headerBounds = { maxValues: 4096, maxDepth: 1 };

/** Texts by name in a header, as JSON; undefined where it is absent. Throws `invalid_argument`. */
export function textsOf(
  headers: IncomingHttpHeaders,
  name: string,
): Readonly<Record<string, string>> | undefined {
  const header = headers[name];
  if (header === undefined) return undefined;
  try {
    return texts.parse(parseJson(String(header), headerBounds));
  } catch (cause) {
    throw new CryoboxError('invalid_argument', `the header ${name} is no JSON object of texts`, {
      cause,
      hint: `Write it as ${name}: {"NAME":"value"}.`,
    });
  }
}
