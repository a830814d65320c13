import { LRUCache } from 'lru-cache';
/** Limits of one server, with the reason for each default. */
export interface ServerLimits {
  /** JSON bodies; the largest honest one is a create with a full environment. @default 1 MiB */
  readonly jsonBodyBytes: number;
  /** Values in a JSON body: each is checked, in one go. The largest honest one has some hundreds. @default 10000 */
  readonly jsonBodyValues: number;
  /** Time to send the head of a request, against clients that trickle it. @default 15000 */
  readonly headersTimeoutMs: number;
  /** Time to send a JSON body. @default 30000 */
  readonly jsonBodyTimeoutMs: number;
  /** Time to send the rest of a body that nobody reads any more, so that the client sees the answer. @default 10000 */
  readonly unreadBodyMs: number;
  /** Longest silence of a client that is asked for more of an upload. @default 60000 */
  readonly uploadIdleMs: number;
  /**
   * Open connections, upgraded ones included: each costs a descriptor and its buffers. Never more than leaves half of
   * the process's descriptors to the engine. @default 4096
   */
  readonly connections: number;
  /** Connections of one address on which no request was let in yet; beyond it the one idle for longest goes. @default 256 */
  readonly unprovenConnections: number;
  /** How long such a connection may be idle after an answer. @default 5000 */
  readonly unprovenKeepAliveMs: number;
  /** Requests of one principal under way at once, streams included: a quarter of the connections. @default 1024 */
  readonly requestsUnderWay: number;
  /** Requests of one principal in a second, or null for no limit; of one address, without a key. @default 500 */
  readonly requestsPerSecond: number | null;
  /** Requests of one principal at once after a pause. @default 1000 */
  readonly requestBurst: number;
  /** How long an execution made by a POST waits, with its output, for the attach. @default 10000 */
  readonly attachWaitMs: number;
  /** How long after its last attach an execution made by a POST is let live; null: for ever. @default 300000 */
  readonly orphanMs: number | null;
}

/** The defaults of {@link ServerLimits}. */
export const defaultLimits: ServerLimits = {
  jsonBodyBytes: 1024 * 1024,
  jsonBodyValues: 10_000,
  headersTimeoutMs: 15_000,
  jsonBodyTimeoutMs: 30_000,
  unreadBodyMs: 10_000,
  uploadIdleMs: 60_000,
  connections: 4096,
  unprovenConnections: 256,
  unprovenKeepAliveMs: 5000,
  requestsUnderWay: 1024,
  requestsPerSecond: 500,
  requestBurst: 1000,
  attachWaitMs: 10_000,
  orphanMs: 300_000,
};

/** Principals whose buckets are remembered; beyond it the oldest is forgotten and begins anew. */
const maxBuckets = 10_000;

/** A token bucket for each principal. */
export class RateLimiter {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #buckets = new LRUCache<string, { tokens: number; at: number }>({ max: maxBuckets });

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
  }

  /** Takes one token. 0 when there was one, else the milliseconds until there is. */
  take(principal: string, now = performance.now()): number {
    const known = this.#buckets.get(principal);
    const refilled = known ? known.tokens + ((now - known.at) / 1000) * this.#perSecond : this.#burst;
    const tokens = Math.min(this.#burst, refilled);
    const granted = tokens >= 1;
    this.#buckets.set(principal, { tokens: granted ? tokens - 1 : tokens, at: now });
    return granted ? 0 : ((1 - tokens) / this.#perSecond) * 1000;
  }
}
