import { Duplex } from 'node:stream';
import { type Span, SpanStatusCode } from '@opentelemetry/api';
import type { ByteSource } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { isCryoboxError } from '../../errors.js';
import { tracer } from './stages.js';

/** What is known of an operation before it runs. */
export interface OperationFacts {
  /** As in `box.pause`. */
  readonly operation: string;
  readonly tenant: string;
  readonly box?: string | undefined;
}

/** How an operation ended. */
interface Outcome {
  readonly error?: unknown;
  /** Bytes of content it gave, where it gives some. */
  readonly bytes?: number | undefined;
  /** Id of a box that it made or found. */
  readonly box?: string | undefined;
}

/** Operations that change nothing: told to who debugs only, for there may be hundreds in a second. */
const reads = /\.(info|get|list|stat|metrics|consoleLog|read|readStream|verify)$/;

/** Something that runs, and is told once when it has ended. */
class Followed {
  readonly #logger: Logger;
  readonly #facts: OperationFacts;
  readonly #span: Span;
  readonly #started = performance.now();
  #isTold = false;

  constructor(logger: Logger, facts: OperationFacts, span: Span) {
    this.#logger = logger;
    this.#facts = facts;
    this.#span = span;
  }

  /** Tells it, the first time. */
  end({ error, bytes, box }: Outcome): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const outcome = error === undefined ? 'ok' : isCryoboxError(error) ? error.code : 'internal';
    const ms = Math.round((performance.now() - this.#started) * 10) / 10;
    const found = { ...(bytes === undefined ? {} : { bytes }), ...(box === undefined ? {} : { box }) };
    const level = reads.test(this.#facts.operation) ? 'debug' : 'info';
    this.#logger[level]('operation', { ...this.#facts, ms, outcome, ...found });
    if (error !== undefined) this.#span.setStatus({ code: SpanStatusCode.ERROR, message: outcome });
    this.#span.setAttribute('cryobox.outcome', outcome);
    for (const [name, value] of Object.entries(found)) this.#span.setAttribute(`cryobox.${name}`, value);
    this.#span.end();
  }
}

/**
 * Runs an operation: one line in the log, and one span, when it has ended. An operation that gives bytes has ended when they
 * have been read, or its reader has left. `boxOf`: the box that is in a result.
 */
export async function follow<T>(
  logger: Logger,
  facts: OperationFacts,
  run: () => Promise<T>,
  boxOf: (result: T) => string | undefined = () => undefined,
): Promise<T> {
  const { operation, tenant, box } = facts;
  const attributes = { 'cryobox.tenant': tenant, ...(box === undefined ? {} : { 'cryobox.box': box }) };
  return await tracer.startActiveSpan(operation, { attributes }, async (span) => {
    const followed = new Followed(logger, facts, span);
    try {
      const result = await run();
      if (isByteSource(result)) return followBytes(result, followed) as T;
      followed.end({ bytes: bytesOf(result), box: boxOf(result) });
      return result;
    } catch (error) {
      followed.end({ error });
      throw error;
    }
  });
}

/**
 * Whether an operation gave bytes that are still to be read. A connection, which has two directions, is none; neither is what
 * can be closed, a handle whose operation has ended.
 */
export function isByteSource(result: unknown): result is ByteSource {
  if (typeof result !== 'object' || result === null || result instanceof Duplex) return false;
  return Symbol.asyncIterator in result && !('close' in result);
}

function bytesOf(result: unknown): number | undefined {
  if (result instanceof Uint8Array) return result.length;
  if (typeof result !== 'object' || result === null || !('stdout' in result && 'stderr' in result))
    return undefined;
  const { stdout, stderr } = result;
  const isOutput = (output: unknown): output is string | Uint8Array =>
    typeof output === 'string' || output instanceof Uint8Array;
  return isOutput(stdout) && isOutput(stderr)
    ? Buffer.byteLength(stdout) + Buffer.byteLength(stderr)
    : undefined;
}

/** Passes everything on, also the end of a reader who took nothing: a generator would not see that. */
function followBytes(source: ByteSource, followed: Followed): ByteSource {
  return {
    [Symbol.asyncIterator]: () => {
      const inner = source[Symbol.asyncIterator]();
      let bytes = 0;
      return {
        next: async () => {
          try {
            const step = await inner.next();
            if (step.done) followed.end({ bytes });
            else bytes += step.value.length;
            return step;
          } catch (error) {
            followed.end({ error, bytes });
            throw error;
          }
        },
        return: async () => {
          followed.end({ bytes });
          await inner.return?.();
          return { done: true, value: undefined };
        },
      };
    },
  };
}
