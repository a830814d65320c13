import type { ExecutionOutput } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { errorFromJson } from './error.js';
import { asObject, type JsonObject, number, text, textOrNull } from './json.js';

/** Streams of a command, by name. */
export const logStreams = ['stdout', 'stderr'] as const;
export type LogStream = (typeof logStreams)[number];

/** How bytes stand in JSON: as text where they are UTF-8, which changes those that are not. */
export type LogEncoding = 'utf8' | 'base64';

/** Offsets in both streams, counted from the first byte that the command wrote. */
export type LogPosition = Readonly<Record<LogStream, number>>;

/** One line of `GET .../executions/{eid}/logs`: a piece of output. */
export function outputLine(
  stream: LogStream,
  at: number,
  bytes: Uint8Array,
  encoding: LogEncoding,
): JsonObject {
  const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    type: 'output',
    stream,
    at,
    end: at + bytes.length,
    ...(encoding === 'utf8' ? { text: content.toString() } : { base64: content.toString('base64') }),
  };
}

/** Puts together what the lines of the logs say, in base64, without following. */
export async function outputFromLines(lines: AsyncIterable<JsonObject>): Promise<ExecutionOutput> {
  const pieces: Record<LogStream, Buffer[]> = { stdout: [], stderr: [] };
  const at: Record<LogStream, number | undefined> = { stdout: undefined, stderr: undefined };
  for await (const line of lines) {
    const type = text(line, 'type');
    if (type === 'error') throw errorFromJson(asObject(line['error'], 'error'), 500);
    if (type === 'output') {
      const stream = text(line, 'stream') as LogStream;
      pieces[stream]?.push(Buffer.from(textOrNull(line, 'base64') ?? '', 'base64'));
      at[stream] ??= number(line, 'at');
    }
    if (type !== 'running' && type !== 'exit') continue;
    return {
      stdout: Buffer.concat(pieces.stdout),
      stderr: Buffer.concat(pieces.stderr),
      stdoutAt: at.stdout ?? number(line, 'stdout_at'),
      stderrAt: at.stderr ?? number(line, 'stderr_at'),
    };
  }
  throw new CryoboxError('upstream_unavailable', 'The answer ended before its last line');
}
