import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Logger } from '../../../base/log.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../../errors.js';
import type { Connections } from '../connections.js';
import type { ServerMetrics } from '../metrics.js';
import { admit } from './access.js';
import type { PortDialect, PortRefusal, PortTarget } from './dialect.js';
import { forward } from './forward.js';

/** Requests and upgraded connections to one box at once: each is a connection in its guest, which has 512 MiB. */
const maxPerBox = 512;

/** What a proxy is made of. */
export interface PortProxyOptions {
  /** The first that knows an address serves it. */
  readonly dialects: readonly PortDialect[];
  readonly connections: Connections;
  readonly metrics: ServerMetrics;
  readonly logger: Logger;
}

/** One request, or one upgrade. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Bytes that came after the head of an upgrade. */
  readonly head?: Buffer;
}

/**
 * Passes requests on to ports of boxes: HTTP/1.1 with its upgrades, streamed both ways, with headers spelled as they came.
 * Which requests, and what is answered where nothing serves them, is the dialect's.
 */
export class PortProxy {
  readonly #options: PortProxyOptions;
  readonly #underWay = new Map<string, number>();
  readonly #open = new Set<AbortController>();

  constructor(options: PortProxyOptions) {
    this.#options = options;
  }

  /** Serves a request that is for a port of a box. False for all others, which it leaves alone. */
  serve(request: IncomingMessage, response: ServerResponse): boolean {
    return this.#take({ request, response });
  }

  /** As {@link PortProxy.serve}, for an upgrade. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const response = new ServerResponse(request);
    const take = this.#take({ request, response, head });
    if (!take) return false;
    socket.on('error', () => undefined);
    response.assignSocket(request.socket);
    // Node has handed the connection over, and closes it no more.
    response.shouldKeepAlive = false;
    response.once('finish', () => request.socket.destroySoon());
    return true;
  }

  /** Ends all that is open. */
  close(): void {
    for (const open of this.#open) open.abort();
  }

  #take(exchange: Exchange): boolean {
    for (const dialect of this.#options.dialects) {
      const address = dialect.addressOf(exchange.request);
      if (address === undefined) continue;
      this.#pass(dialect, address, exchange).catch((error: unknown) => {
        this.#options.logger.error('a request to a port failed', { error: messageOf(error) });
        exchange.response.destroy();
      });
      return true;
    }
    return false;
  }

  async #pass<Address>(dialect: PortDialect<Address>, address: Address, exchange: Exchange): Promise<void> {
    const { request, response } = exchange;
    const began = performance.now();
    const end = new AbortController();
    const key = dialect.keyOf(address);
    const leave = this.#enter(key, end);
    response.once('close', () => {
      leave?.();
      end.abort();
      this.#options.metrics.request(dialect.operation, response.statusCode, performance.now() - began);
    });
    try {
      if (!leave) return refuse(exchange, dialect.refusal(address, 'busy', request));
      const target = await dialect.find(address);
      if (!target) return refuse(exchange, dialect.refusal(address, 'missing', request));
      if (!this.#admitted(dialect, address, target, exchange)) return;
      this.#options.connections.prove(request.socket);
      await this.#forward(target, exchange, end.signal);
    } catch (error) {
      if (end.signal.aborted) {
        response.destroy();
        return;
      }
      const why = await whyOf(error, dialect, address);
      this.#options.logger.debug('a request to a port was not answered', { key, error: messageOf(error) });
      refuse(exchange, dialect.refusal(address, why, request));
    }
  }

  #enter(key: string, end: AbortController): (() => void) | undefined {
    const count = this.#underWay.get(key) ?? 0;
    if (count >= maxPerBox) return undefined;
    this.#underWay.set(key, count + 1);
    this.#open.add(end);
    return () => {
      this.#open.delete(end);
      const left = (this.#underWay.get(key) ?? 1) - 1;
      if (left > 0) this.#underWay.set(key, left);
      else this.#underWay.delete(key);
    };
  }

  #admitted<Address>(
    dialect: PortDialect<Address>,
    address: Address,
    { access }: PortTarget,
    exchange: Exchange,
  ): boolean {
    const admission = admit(exchange.request, access);
    if (admission.kind === 'admitted') return true;
    if (admission.kind === 'redirect') {
      const { location, cookie } = admission;
      exchange.response.writeHead(302, {
        location,
        'set-cookie': cookie,
        'cache-control': 'no-store',
        // The address with the token in it is nothing for the next page.
        'referrer-policy': 'no-referrer',
        'content-length': 0,
      });
      exchange.response.end();
      return false;
    }
    const why = admission.kind === 'missing' ? 'token_missing' : 'token_wrong';
    refuse(exchange, dialect.refusal(address, why, exchange.request));
    return false;
  }

  async #forward(target: PortTarget, exchange: Exchange, signal: AbortSignal): Promise<void> {
    using watch = target.watch();
    try {
      await forward({ ...exchange, target, signal: AbortSignal.any([signal, watch.signal]) });
    } catch (error) {
      throw watch.signal.aborted ? new CryoboxError('stopped', 'The box is ended', { cause: error }) : error;
    }
  }
}

/** Why a request was not answered, for its client. */
async function whyOf<Address>(
  error: unknown,
  dialect: PortDialect<Address>,
  address: Address,
): Promise<PortRefusal> {
  if (isCryoboxError(error, 'network_unavailable')) return 'closed';
  if (isCryoboxError(error, 'resource_exhausted')) return 'busy';
  if (isCryoboxError(error, 'stopped')) return 'stopped';
  if (isCryoboxError(error, 'internal')) return error;
  // The box may have gone, or only the program in it.
  return (await dialect.find(address)) ? 'closed' : 'missing';
}

function refuse(
  { response }: Exchange,
  { status, contentType, body }: ReturnType<PortDialect['refusal']>,
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const bytes = Buffer.from(body);
  response.writeHead(status, { 'content-type': contentType, 'content-length': bytes.length });
  response.end(bytes);
}
