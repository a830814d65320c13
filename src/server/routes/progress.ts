import type { Progress } from '../../api/index.js';
import { ndjson } from '../../wire/media.js';
import type { Answer, Call } from '../route.js';
import { progressLines } from '../streams.js';

/** Takes the progress of a long operation. */
export type OnProgress = (progress: Progress) => void;

/** Whether the client asked for progress while it waits. */
export function wantsLines(call: Call): boolean {
  return call.headers.accept?.includes(ndjson) ?? false;
}

/** The answer of a long operation as lines: progress, then its result or error. */
export function withProgress(call: Call, run: (onProgress: OnProgress) => Promise<unknown>): Answer {
  return { status: 200, bytes: progressLines(run, call.requestId), contentType: ndjson };
}
