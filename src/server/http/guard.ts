import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CryoboxError } from '../../errors.js';
import {
  anonymousPrincipal,
  authenticate,
  authorize,
  isAnonymous,
  localPrincipal,
  needsKey,
  type Principal,
} from './auth.js';
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

/** Who asks, and with what. */
interface Admitted {
  readonly principal: Principal;
  /** The `Authorization` header, or what stands for it: in the route's dialect, or by the session of a browser. */
  readonly authorization: string | undefined;
}

function authorizationIn({ headers }: FastifyRequest, { foreign }: Route): string | undefined {
  return foreign?.authorization ? foreign.authorization(headers) : headers.authorization;
}

const addressOf = (request: FastifyRequest): string => `address ${request.ip}`;

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

  /** Who a request to a route is of; throws `unauthenticated`, `permission_denied`, `resource_exhausted` or `not_found`. */
  async check(request: FastifyRequest, reply: FastifyReply, route: Route): Promise<Admitted> {
    const prefix = prefixes.get(request.raw) ?? null;
    if (prefix && !isTenantPrefix(prefix)) {
      throw new CryoboxError('not_found', 'The URL has a prefix that no tenant can have');
    }
    const admitted = await this.#admit(request, reply, route, prefix);
    const { principal } = admitted;
    if (!route.unlimited) this.#limit(isAnonymous(principal) ? addressOf(request) : principal.id, reply);
    authorize(principal, route.scope === 'public' ? null : route.scope, prefix);
    return admitted;
  }

  async #admit(
    request: FastifyRequest,
    reply: FastifyReply,
    route: Route,
    prefix: string | null,
  ): Promise<Admitted> {
    const { authorization: header } = request.headers;
    if (this.#local) return { principal: localPrincipal(prefix), authorization: header };
    if (route.scope === 'public') return { principal: anonymousPrincipal(prefix), authorization: undefined };
    try {
      const { foreign } = route;
      if (foreign?.admit) {
        const { params, query, headers } = request;
        return {
          principal: await foreign.admit({ params, query, headers }),
          authorization: authorizationIn(request, route),
        };
      }
      const { authenticator, browsers } = this.#parts;
      if (!authenticator || !(await needsKey(authenticator))) {
        return { principal: anonymousPrincipal(prefix), authorization: header };
      }
      // A key that is named goes before a cookie, and other dialects know no cookies.
      const authorization =
        foreign || header !== undefined
          ? authorizationIn(request, route)
          : browsers.authorizationOf(request.raw);
      return { principal: await authenticate(authenticator, authorization), authorization };
    } catch (error) {
      // Guessing keys is limited by address.
      this.#limit(addressOf(request), reply);
      throw error;
    }
  }

  #limit(who: string, reply: FastifyReply): void {
    const waitMs = this.#limiter?.take(who) ?? 0;
    if (waitMs === 0) return;
    const seconds = Math.ceil(waitMs / 1000);
    reply.header('retry-after', String(seconds));
    throw new CryoboxError('resource_exhausted', `Too many requests; try again in ${seconds} s`);
  }
}
