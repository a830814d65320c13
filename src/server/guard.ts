import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CryoboxError } from '../errors.js';
import { anonymousPrincipal, authenticate, authorize, localPrincipal, type Principal } from './auth.js';
import type { RateLimiter } from './limits.js';
import type { Parts } from './parts.js';
import { isTenantPrefix, splitPrefix } from './prefix.js';
import type { Route } from './route.js';

const prefixes = new WeakMap<IncomingMessage, string>();

/** Takes the tenant prefix out of a request's URL and remembers it. */
export function rewriteUrl(request: IncomingMessage): string {
  const { url, prefix } = splitPrefix(request.url ?? '/');
  if (prefix !== null) prefixes.set(request, prefix);
  return url;
}

/** The client's request id when it is harmless in logs, else a new one. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(given) ? given : randomUUID();
}

/** Decides who asks, whether they may, and whether too often. */
export class Guard {
  readonly #parts: Parts;
  /** Whether this is the engine's own socket, which only the home's owner can open. */
  readonly #local: boolean;
  readonly #limiter: RateLimiter | null;

  constructor(parts: Parts, options: { local: boolean; limiter: RateLimiter | null }) {
    this.#parts = parts;
    this.#local = options.local;
    this.#limiter = options.limiter;
  }

  /** The principal of a request to a route; throws `unauthenticated`, `permission_denied`, `resource_exhausted` or `not_found`. */
  async check(request: FastifyRequest, reply: FastifyReply, route: Route): Promise<Principal> {
    const prefix = prefixes.get(request.raw) ?? null;
    if (prefix && !isTenantPrefix(prefix)) {
      throw new CryoboxError('not_found', 'The URL has a prefix that no tenant can have');
    }
    const principal = await this.#principal(request, reply, route, prefix);
    this.#limit(principal.id, reply);
    authorize(principal, route.scope === 'public' ? null : route.scope, prefix);
    return principal;
  }

  async #principal(
    request: FastifyRequest,
    reply: FastifyReply,
    route: Route,
    prefix: string | null,
  ): Promise<Principal> {
    const { authenticator } = this.#parts;
    if (this.#local) return localPrincipal(prefix);
    if (!authenticator || route.scope === 'public') return anonymousPrincipal(prefix);
    try {
      return await authenticate(authenticator, request.headers.authorization);
    } catch (error) {
      // Guessing keys is limited by address.
      this.#limit(`address ${request.ip}`, reply);
      throw error;
    }
  }

  #limit(who: string, reply: FastifyReply): void {
    const waitMs = this.#limiter?.take(who) ?? 0;
    if (waitMs === 0) return;
    const seconds = Math.ceil(waitMs / 1000);
    void reply.header('retry-after', String(seconds));
    throw new CryoboxError('resource_exhausted', `Too many requests; try again in ${seconds} s`);
  }
}
