import type { FileEvent } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import { errorFromJson } from './error.js';
import { asObject, compact, type JsonObject, text, textOrNull } from './json.js';

/** The last line of a watch that ended in order. */
export const watchEnded: JsonObject = { type: 'ended' };

/** An event of a watched directory on the wire. */
export function fileEventToJson({ type, path, to, isDirectory }: FileEvent): JsonObject {
  return compact({ type, path, to, is_directory: isDirectory });
}

/** The inverse of {@link fileEventToJson}. */
export function fileEventFromJson(json: JsonObject): FileEvent {
  return compact({
    type: text(json, 'type') as FileEvent['type'],
    path: text(json, 'path'),
    to: textOrNull(json, 'to') ?? undefined,
    isDirectory: json['is_directory'] === true,
  });
}

/** The events that lines of `GET .../files/watch` tell. Fails with what an `error` line says, and when the last line is missing. */
export async function* watchEvents(lines: AsyncIterable<JsonObject>): AsyncGenerator<FileEvent> {
  for await (const line of lines) {
    if (line['type'] === watchEnded['type']) return;
    if (line['type'] === 'error') throw errorFromJson(asObject(line['error'], 'error'), 500);
    yield fileEventFromJson(line);
  }
  throw new CryoboxError('upstream_unavailable', 'The answer ended before the watch did', {
    hint: 'Watch again, and look at what is there: events may be missing.',
  });
}
