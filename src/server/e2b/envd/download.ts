import type { IncomingHttpHeaders } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { constants, createGzip } from 'node:zlib';
import rangeParser from 'range-parser';
import type { Box, ByteSource, FileInfo } from '../../../api/index.js';
import { CryoboxError, isCryoboxError } from '../../../errors.js';
import type { Answer } from '../../http/route.js';
import { targetOf } from './entries.js';

/** Bytes of a file that are asked for: `whole`, a part, or a part that is not there. */
type Wanted = 'whole' | 'nothing' | { readonly start: number; readonly end: number };

const secondsOf = (date: Date): number => Math.floor(date.getTime() / 1000);
const isTime = (header: string | undefined, time: number): boolean =>
  Date.parse(header ?? '') / 1000 === time;

/** Several parts at once are answered with the whole file (RFC 9110, section 14.2). */
function wantedOf(headers: IncomingHttpHeaders, { sizeBytes, modifiedAt }: FileInfo): Wanted {
  const { range, 'if-range': ifRange } = headers;
  if (range === undefined) return 'whole';
  if (ifRange !== undefined && !isTime(String(ifRange), secondsOf(modifiedAt))) return 'whole';
  const ranges = rangeParser(sizeBytes, range, { combine: true });
  if (ranges === -1) return 'nothing';
  const [first] = ranges === -2 || ranges.type !== 'bytes' || ranges.length > 1 ? [] : ranges;
  return first ?? 'whole';
}

/** Only who names gzip alone gets it: HTTP libraries name all that they know unasked, and packing takes longer than sending. */
function wantsGzip(headers: IncomingHttpHeaders): boolean {
  return /^\s*gzip\s*$/i.test(String(headers['accept-encoding'] ?? ''));
}

function packed(bytes: ByteSource): ByteSource {
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  // What fails is read from the last of them.
  return pipeline(Readable.from(bytes), gzip, () => undefined);
}

/** A file as an answer: whole, packed, or the part that is asked for. Throws `not_found`, `invalid_argument` for a directory. */
export async function downloadOf(
  { files }: Box,
  path: string,
  headers: IncomingHttpHeaders,
  signal: AbortSignal,
): Promise<Answer> {
  const missing = (cause?: unknown) =>
    new CryoboxError('not_found', `path '${path}' does not exist`, { cause });
  const found = await files.stat(path, { signal });
  if (!found) throw missing();
  const file = await targetOf(files, found);
  try {
    // Files of the kernel have no length, and no parts.
    if (file.type !== 'file' || file.sizeBytes === 0)
      return { bytes: await files.readStream(path, { signal }) };
    const about = { 'accept-ranges': 'bytes', 'last-modified': file.modifiedAt.toUTCString() };
    const since = Date.parse(headers['if-modified-since'] ?? '') / 1000;
    if (secondsOf(file.modifiedAt) <= since) return { status: 304, headers: about };
    const wanted = wantedOf(headers, file);
    if (wanted === 'nothing') {
      const message = `range ${headers.range} is not in the ${file.sizeBytes} bytes of '${path}'`;
      const contentRange = `bytes */${file.sizeBytes}`;
      return {
        status: 416,
        headers: { ...about, 'content-range': contentRange },
        json: { code: 416, message },
      };
    }
    if (wanted !== 'whole') {
      const { start, end } = wanted;
      const options = { offsetBytes: start, lengthBytes: end - start + 1, signal };
      const contentRange = `bytes ${start}-${end}/${file.sizeBytes}`;
      const bytes = await files.readStream(path, options);
      return { status: 206, headers: { ...about, 'content-range': contentRange }, bytes };
    }
    const bytes = await files.readStream(path, { signal });
    if (!wantsGzip(headers)) return { headers: about, bytes };
    return {
      headers: { ...about, 'content-encoding': 'gzip', vary: 'accept-encoding' },
      bytes: packed(bytes),
    };
  } catch (error) {
    throw isCryoboxError(error, 'not_found') ? missing(error) : error;
  }
}
