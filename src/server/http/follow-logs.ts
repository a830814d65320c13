import { setTimeout as delay } from 'node:timers/promises';
import type { Box, ExecutionInfo } from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { exitCodeOf } from '../../wire/execution.js';
import type { JsonObject } from '../../wire/json.js';
import {
  type LogEncoding,
  type LogPosition,
  type LogStream,
  logStreams,
  outputLine,
} from '../../wire/log.js';
import type { LiveItem } from './live-text.js';
import type { Parts } from './parts.js';
import type { Reel } from './reel.js';
import { notFound } from './route.js';
import { Utf8Cutter } from './utf8.js';

/** How the logs of an execution are told. */
export interface LogsOptions {
  readonly box: Box;
  readonly executionId: string;
  /** Where it begins. */
  readonly from: LogPosition;
  readonly encoding: LogEncoding;
  /** Those that are told of. */
  readonly streams: readonly LogStream[];
  readonly follow: boolean;
  /** Whether it may take over the streams of a command that is held for its attach: then nothing is lost. */
  readonly takes: boolean;
  readonly signal: AbortSignal;
  readonly parts: Pick<Parts, 'sessions' | 'closing' | 'errors'>;
}

/**
 * How often a command that somebody else reads, or nobody, is asked for more. The guest keeps 256 KiB of each stream: what
 * writes more than that in between loses some, which is told.
 */
const askAgainMs = 250;

/** Largest piece of one line. */
const pieceBytes = 64 * 1024;

/** Name of the last thing; a browser that comes back after it is sent away. */
export const endId = 'end';

/** One stream on its way into lines. */
class Track {
  readonly stream: LogStream;
  /** Offset of the next byte that is wanted. */
  at: number;
  /** Offset behind what was told. */
  told: number;
  readonly #encoding: LogEncoding;
  readonly #cutter = new Utf8Cutter(pieceBytes);

  constructor(stream: LogStream, at: number, encoding: LogEncoding) {
    this.stream = stream;
    this.at = at;
    this.told = at;
    this.#encoding = encoding;
  }

  /** The lines of bytes that begin at an offset; what lies before it is told to be lost. */
  *add(at: number, bytes: Uint8Array): Generator<JsonObject> {
    if (at > this.at) {
      yield* this.flush();
      yield { type: 'output_lost', stream: this.stream, at: this.at, bytes: at - this.at };
      this.at = at;
      this.told = at;
    }
    const fresh = bytes.subarray(this.at - at);
    this.at += fresh.length;
    yield* this.#lines(this.#encoding === 'utf8' ? this.#cutter.push(fresh) : piecesOf(fresh));
  }

  /** What was held back of a character whose rest does not come. */
  *flush(): Generator<JsonObject> {
    yield* this.#lines(this.#cutter.flush());
  }

  *#lines(pieces: Iterable<Uint8Array>): Generator<JsonObject> {
    for (const piece of pieces) {
      const line = outputLine(this.stream, this.told, piece, this.#encoding);
      this.told += piece.length;
      yield line;
    }
  }
}

function* piecesOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** The output of one execution as lines, and what follows it. */
class Logs {
  readonly #options: LogsOptions;
  readonly #tracks: readonly Track[];

  constructor(options: LogsOptions) {
    const { from, encoding } = options;
    this.#options = options;
    this.#tracks = options.streams.map((stream) => new Track(stream, from[stream], encoding));
  }

  async *lines(): AsyncGenerator<JsonObject> {
    const { box, executionId, follow, takes, signal, parts } = this.#options;
    using _ = parts.sessions.follow(executionId);
    for (;;) {
      if (follow && takes && parts.sessions.holds(box.id, executionId)) {
        const exit = yield* this.#taken();
        if (exit) return yield exit;
      }
      // Asked before its output: what an ended one wrote is all there.
      const info = await executionOf(box, executionId, signal);
      yield* this.#kept();
      if (info.status !== 'running' || !follow) {
        for (const track of this.#tracks) yield* track.flush();
        yield this.#last(info);
        return;
      }
      await delay(askAgainMs, undefined, { signal });
    }
  }

  /** Where the client goes on. */
  position(): string {
    const at = (stream: LogStream): number =>
      this.#tracks.find((track) => track.stream === stream)?.told ?? this.#options.from[stream];
    return `${at('stdout')}.${at('stderr')}`;
  }

  async *#kept(): AsyncGenerator<JsonObject> {
    const { box, executionId, signal, from } = this.#options;
    const at = (stream: LogStream): number =>
      this.#tracks.find((track) => track.stream === stream)?.at ?? from[stream];
    const kept = await box.executions.output(executionId, {
      stdoutAt: at('stdout'),
      stderrAt: at('stderr'),
      signal,
    });
    for (const track of this.#tracks) yield* track.add(kept[`${track.stream}At`], kept[track.stream]);
  }

  #last(info: ExecutionInfo): JsonObject {
    const at = Object.fromEntries(logStreams.map((name) => [`${name}_at`, this.#options.from[name]]));
    for (const { stream, told } of this.#tracks) at[`${stream}_at`] = told;
    if (info.status === 'running') return { type: 'running', ...at };
    return {
      type: 'exit',
      exit_code: exitCodeOf(info),
      signal: info.signal,
      timed_out: info.status === 'timed_out',
      duration_ms: info.durationMs === null ? null : Math.round(info.durationMs),
      ...at,
    };
  }

  /** Takes the command over until its end, or until it is somebody else's. Gives the last line at its end. */
  async *#taken(): AsyncGenerator<JsonObject, JsonObject | undefined> {
    const { box, executionId, parts, signal } = this.#options;
    const { sessions } = parts;
    const reel = sessions.take(box.id, executionId);
    if (!reel) return undefined;
    let hasEnded = false;
    try {
      // What went to an earlier client and has not arrived there is still kept in the guest.
      if (this.#tracks.some(({ stream, at }) => at < reel[stream].start)) yield* this.#kept();
      for (const stream of logStreams) {
        if (!this.#options.streams.includes(stream)) drain(reel, stream);
      }
      yield* this.#fromReel(reel);
      const {
        exitCode,
        signal: number,
        timedOut,
        durationMs,
      } = await abortable(reel.execution.wait(), signal);
      hasEnded = true;
      for (const track of this.#tracks) yield* track.flush();
      const status = timedOut ? 'timed_out' : number === null ? 'completed' : 'killed';
      return this.#last({ exitCode, signal: number, status, durationMs } as ExecutionInfo);
    } finally {
      if (!hasEnded && !parts.closing.aborted) sessions.hold(box, reel, { reap: false });
      else {
        await reel.execution.detach().catch(() => undefined);
        if (hasEnded) sessions.ended(executionId);
        else sessions.release(executionId);
      }
    }
  }

  /** Both streams, in the order in which they come. */
  async *#fromReel(reel: Reel): AsyncGenerator<JsonObject> {
    const { signal } = this.#options;
    const next = async (track: Track) => {
      const from = Math.max(track.at, reel[track.stream].start);
      return { track, from, chunk: await reel[track.stream].read(from) };
    };
    const pending = new Map(this.#tracks.map((track) => [track, next(track)]));
    for (const each of pending.values()) each.catch(() => undefined);
    while (pending.size > 0) {
      const { track, from, chunk } = await abortable(Promise.race(pending.values()), signal);
      if (chunk === undefined) {
        pending.delete(track);
        continue;
      }
      yield* track.add(from, chunk);
      // It was taken by the client's connection.
      reel[track.stream].release(track.at);
      const coming = next(track);
      coming.catch(() => undefined);
      pending.set(track, coming);
    }
  }
}

/** Reads what nobody wants, so that the command does not wait for it. */
function drain(reel: Reel, stream: LogStream): void {
  const all = async (): Promise<void> => {
    const tape = reel[stream];
    let at = tape.start;
    for (let chunk = await tape.read(at); chunk; chunk = await tape.read(at)) {
      at += chunk.length;
      tape.release(at);
    }
  };
  all().catch(() => undefined);
}

/** An execution that can be asked for its output; throws why there is none. */
export async function executionOf(box: Box, id: string, signal: AbortSignal): Promise<ExecutionInfo> {
  const info = await box.executions.get(id, { signal });
  if (info) return info;
  // Says whether the box is paused, or does not run.
  await box.executions.output(id, { signal });
  throw notFound('execution', id);
}

/** The output of an execution: lines that end with `exit` or, where it is not followed, `running`. */
export async function* logItems(options: LogsOptions): AsyncGenerator<LiveItem> {
  const logs = new Logs(options);
  try {
    for await (const json of logs.lines()) {
      const event = String(json['type']);
      yield { id: event === 'exit' ? endId : logs.position(), event, json };
    }
  } catch (error) {
    if (options.signal.aborted) return;
    yield {
      id: logs.position(),
      event: 'error',
      json: { type: 'error', error: options.parts.errors.json(error) },
    };
  }
}
