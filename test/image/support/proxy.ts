/** A proxy before a registry that misbehaves as a test asks, and counts what it was asked. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What the proxy does to one answer; nothing when empty. */
export interface Mischief {
  /** Answer this instead of asking the registry. */
  readonly answer?: {
    readonly status: number;
    readonly headers?: Record<string, string>;
    readonly body?: string | Buffer;
  };
  /** Break the connection after so many bytes of the body. */
  readonly cutAfterBytes?: number;
  /** End the body after so many bytes as if it were whole, without a length. */
  readonly endAfterBytes?: number;
  /** Change a byte of the body. */
  readonly corrupt?: boolean;
  /** Announce another length. */
  readonly length?: number;
  /** Ask the registry for all, whatever range is wanted. */
  readonly dropRange?: boolean;
  /** Wait before each piece of the body. */
  readonly pauseMs?: number;
  /** Send nothing more after so many bytes, and keep the connection. */
  readonly stallAfterBytes?: number;
}

/** Decides about a request: its path, and how many times that path was asked for before. */
export type Plan = (path: string, before: number, incoming: IncomingMessage) => Mischief | undefined;

/** The proxy; ends with `await using`. */
export class TestProxy implements AsyncDisposable {
  /** Requests by path, in order. */
  readonly requests: {
    readonly path: string;
    readonly range: string | undefined;
    readonly authorization: string | undefined;
  }[] = [];
  plan: Plan = () => undefined;
  readonly #server: Server;
  readonly #target: number;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((incoming, outgoing) => {
      this.#serve(incoming, outgoing).catch(() => outgoing.destroy());
    });
  }

  static async start(target: number): Promise<TestProxy> {
    const proxy = new TestProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** As references name it. */
  get name(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `127.0.0.1:${address.port}`;
  }

  /** How many times blobs were asked for, by digest. */
  blobCounts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { path } of this.requests) {
      const digest = /\/blobs\/(sha256:.*)$/.exec(path)?.[1];
      if (digest) counts[digest] = (counts[digest] ?? 0) + 1;
    }
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const path = incoming.url ?? '';
    const before = this.requests.filter((earlier) => earlier.path === path).length;
    const { range, authorization } = incoming.headers;
    this.requests.push({ path, range, authorization });
    const mischief = this.plan(path, before, incoming) ?? {};
    if (mischief.answer) {
      outgoing.writeHead(mischief.answer.status, mischief.answer.headers);
      outgoing.end(mischief.answer.body);
      return;
    }
    const headers = { ...incoming.headers };
    if (mischief.dropRange) delete headers.range;
    const asked = request({ host: '127.0.0.1', port: this.#target, path, headers, agent: false });
    asked.end();
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    const answerHeaders = { ...answer.headers };
    if (mischief.length !== undefined) answerHeaders['content-length'] = String(mischief.length);
    if (mischief.endAfterBytes !== undefined) delete answerHeaders['content-length'];
    outgoing.writeHead(answer.statusCode ?? 500, answerHeaders);
    await this.#copy(answer, outgoing, mischief);
  }

  async #copy(answer: IncomingMessage, outgoing: ServerResponse, mischief: Mischief): Promise<void> {
    let sent = 0;
    for await (const piece of answer as AsyncIterable<Buffer>) {
      if (mischief.pauseMs !== undefined) await sleep(mischief.pauseMs);
      const limit =
        mischief.cutAfterBytes ??
        mischief.endAfterBytes ??
        mischief.stallAfterBytes ??
        Number.POSITIVE_INFINITY;
      const part = piece.subarray(0, Math.max(0, limit - sent));
      if (mischief.corrupt && sent === 0) part[0] = (part[0] ?? 0) ^ 0xff;
      sent += part.length;
      if (part.length > 0 && !outgoing.write(part)) await drained(outgoing);
      if (sent < limit) continue;
      if (mischief.stallAfterBytes !== undefined) return;
      if (mischief.cutAfterBytes !== undefined) {
        // What was written goes out before the connection breaks.
        outgoing.write('', () => outgoing.socket?.destroySoon());
        return;
      }
      break;
    }
    outgoing.end();
  }
}

/** Waits until there is room, or nobody reads any more. */
async function drained(outgoing: ServerResponse): Promise<void> {
  if (outgoing.destroyed) return;
  const over = new AbortController();
  const { signal } = over;
  await Promise.race([once(outgoing, 'drain', { signal }), once(outgoing, 'close', { signal })]).finally(() =>
    over.abort(),
  );
}
