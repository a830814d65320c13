import type { FileWatch } from '../../api/index.js';
import { fileEventToJson, watchEnded } from '../../wire/file-watch.js';
import type { JsonObject } from '../../wire/json.js';
import { ndjson } from '../../wire/media.js';
import { boxParams } from '../http/common-schemas.js';
import { type LiveItem, liveText } from '../http/live-text.js';
import { boxOf, type Call, type Route, route } from '../http/route.js';
import { watchLine, watchQuery } from './schemas/files.js';

/** What a watch tells, and how it ended; a client that has gone is told nothing. */
async function* told(watch: FileWatch, { signal, parts, requestId }: Call): AsyncGenerator<LiveItem> {
  const item = (json: JsonObject): LiveItem => ({ id: '', event: String(json['type']), json });
  try {
    for await (const event of watch) yield item(fileEventToJson(event));
    if (!signal.aborted) yield item(watchEnded);
  } catch (error) {
    if (!signal.aborted) yield item({ type: 'error', error: parts.errors.json(error, requestId) });
  }
}

/** Directories that are watched. */
export const watchRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/files/watch',
    operation: 'watchFiles',
    summary: 'What happens in a directory: lines of JSON while it happens',
    scope: 'box:read',
    params: boxParams,
    query: watchQuery,
    answer: { status: 200, body: { [ndjson]: watchLine } },
    passive: true,
    handle: async (call) => {
      const { files } = await boxOf(call);
      const { path, recursive } = call.query;
      const watch = await files.watch(path, { recursive, signal: call.signal });
      return {
        bytes: liveText(told(watch, call), false),
        contentType: ndjson,
        headers: { 'cache-control': 'no-store' },
      };
    },
  }),
];
