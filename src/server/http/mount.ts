import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { WebSocket } from 'ws';
import { ZodType, z } from 'zod';
import type { ByteSource } from '../../api/index.js';
import { inRequest } from '../../base/request.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { errorFromBody } from '../../wire/error.js';
import { jsonMedia, ndjson, octets } from '../../wire/media.js';
import { mayWake, type Principal } from './auth.js';
import { errorBody } from './common-schemas.js';
import { invalidArgument, toCryoboxError } from './errors.js';
import { closeSoon } from './exec-stream.js';
import type { Guard } from './guard.js';
import { fingerprintOf, HashedUpload, type PlainAnswer } from './idempotency.js';
import type { Parts } from './parts.js';
import type { Answer, Call, OnProgress, Route, Upgrade } from './route.js';
import { peek, progressLines, toReadable, upload } from './streams.js';
import { limitUnreadBody } from './unread-body.js';

/** What serving one request needs to remember. */
interface Active {
  readonly principal: Principal;
  readonly gone: AbortController;
  /** The `Authorization` header it was let in with, or what stands for it. */
  readonly authorization: string | undefined;
  upgrade?: Upgrade;
  /** Once it was upgraded. */
  socket?: WebSocket;
}

/** What routes are mounted with. */
export interface MountOptions {
  readonly parts: Parts;
  readonly guard: Guard;
  /** Requests being served; aborting one ends it. */
  readonly active: Map<AbortController, Route>;
}

/** Code of a close for what the other side may not (RFC 6455, section 7.4.1). */
const policyViolation = 1008;

async function* nothing(): ByteSourceGenerator {
  // No bytes: the route takes none.
}
type ByteSourceGenerator = AsyncGenerator<Uint8Array>;

function checked<T>(where: string, schema: ZodType<T> | undefined, value: unknown): T {
  const given = value ?? {};
  if (!schema) {
    const unknown = typeof given === 'object' ? Object.keys(given) : [where];
    if (unknown.length === 0) return given as T;
    throw new CryoboxError('invalid_argument', `${where}: Unknown field "${unknown[0]}"`, {
      details: { field: unknown[0] },
    });
  }
  const result = schema.safeParse(given);
  if (!result.success) throw invalidArgument(where, result.error);
  return result.data;
}

/** What OpenAPI is told of an answer. */
function successOf(body: Route['answer']['body']): unknown {
  if (body === undefined || body instanceof ZodType) return body;
  const media = typeof body === 'string' ? { [body]: z.any() } : body;
  return { content: Object.fromEntries(Object.entries(media).map(([type, schema]) => [type, { schema }])) };
}

/** Whether the client asked for progress while it waits. */
function wantsLines(request: FastifyRequest): boolean {
  return request.headers.accept?.includes(ndjson) ?? false;
}

/** The JSON of an answer that may be an error. */
function jsonOf({ status, body }: PlainAnswer): unknown {
  if (status >= 400) throw errorFromBody(body, status);
  return JSON.parse(body) as unknown;
}

/** Of a request that was not begun: its client may send it to whoever serves next. */
function closingError(): CryoboxError {
  return new CryoboxError('engine_unavailable', 'The engine is closing', { details: { begun: false } });
}

/** Ends a request whose key does not hold any more. */
function cutOff({ gone, socket }: Active, reply: FastifyReply): void {
  gone.abort();
  if (socket) {
    socket.close(policyViolation, 'the API key does not hold any more');
    closeSoon(socket);
  } else if (reply.raw.headersSent) {
    reply.raw.destroy();
  }
}

/** Puts routes on a server: one place for keys, checks, cancellation, answers and measurements. */
export class Mount {
  readonly #options: MountOptions;
  readonly #active = new WeakMap<FastifyRequest, Active>();
  readonly #upgradeHeaders = new WeakMap<IncomingMessage, Readonly<Record<string, string>>>();
  /** Requests under way by principal. */
  readonly #underWay = new Map<string, number>();

  constructor(options: MountOptions) {
    this.#options = options;
  }

  /** Headers of the answer to an upgrade that was accepted. */
  headersOf(request: IncomingMessage): Readonly<Record<string, string>> {
    return this.#upgradeHeaders.get(request) ?? {};
  }

  /** Adds one route. */
  add(app: FastifyInstance, route: Route): void {
    const { parts } = this.#options;
    app.route({
      method: route.method,
      url: route.root ? route.path : `/v1${route.path}`,
      schema: this.#schemaOf(route),
      onRequest: async (request, reply) => this.#begin(request, reply, route),
      preHandler: async (request) => this.#prepareUpgrade(request, route),
      handler: async (request, reply) => inRequest(request.id, () => this.#serve(request, reply, route)),
      ...(route.upgrade
        ? { wsHandler: (socket: WebSocket, request: FastifyRequest) => this.#upgraded(socket, request) }
        : {}),
      onResponse: async (request, reply) => {
        parts.metrics.request(route.operation, reply.statusCode, reply.elapsedTime);
        parts.logger.info('request', {
          requestId: request.id,
          operation: route.operation,
          principal: this.#active.get(request)?.principal.id,
          status: reply.statusCode,
          ms: Math.round(reply.elapsedTime),
        });
        limitUnreadBody(request.raw, parts.limits.unreadBodyMs);
      },
      errorHandler: (error, request, reply) => this.#fail(error, request, reply, route),
    });
  }

  #schemaOf(route: Route): Record<string, unknown> {
    if (route.foreign || route.hidden) return { hide: true };
    const { status, body, others } = route.answer;
    const success = successOf(body);
    return {
      operationId: route.operation,
      summary: route.summary,
      tags: [route.path.split('/')[1] ?? ''],
      ...(route.scope === 'public' ? { security: [] } : {}),
      ...(route.params ? { params: route.params } : {}),
      ...(route.query ? { querystring: route.query } : {}),
      ...headersOf(route),
      ...(route.body && route.body !== 'bytes' ? { body: route.body } : {}),
      response: { ...(success ? { [status]: success } : {}), ...others, '4xx': errorBody, '5xx': errorBody },
    };
  }

  async #begin(request: FastifyRequest, reply: FastifyReply, route: Route): Promise<void> {
    const { guard, active, parts } = this.#options;
    if (parts.closing.aborted && !route.passive) {
      reply.header('connection', 'close');
      throw closingError();
    }
    const { principal, authorization } = await guard.check(request, reply, route);
    if (request.ws && !route.upgrade) {
      throw new CryoboxError('invalid_argument', `${route.operation} speaks no WebSocket`, {
        hint: 'Send it as a plain HTTP request.',
      });
    }
    const gone = new AbortController();
    const one: Active = { principal, gone, authorization };
    const ends: (() => void)[] = [() => active.delete(gone)];
    if (route.scope !== 'public') {
      parts.connections.prove(request.raw.socket);
      ends.push(this.#count(principal.id));
      if (!route.foreign?.admit) {
        ends.push(parts.access.add(authorization, () => cutOff(one, reply)));
      }
    }
    active.set(gone, route);
    reply.raw.once('close', () => {
      for (const end of ends) end();
      if (!reply.raw.writableFinished) gone.abort();
    });
    this.#active.set(request, one);
    if (route.body !== 'bytes') this.#limitBodyTime(request);
  }

  /** Counts one more request of a principal under way, until the result is called. Throws `resource_exhausted`. */
  #count(id: string): () => void {
    const limit = this.#options.parts.limits.requestsUnderWay;
    const count = this.#underWay.get(id) ?? 0;
    if (count >= limit) {
      throw new CryoboxError('resource_exhausted', `${count} requests of this key are under way already`, {
        hint: 'Wait until some of them have ended.',
        details: { limit },
      });
    }
    this.#underWay.set(id, count + 1);
    return () => {
      const left = (this.#underWay.get(id) ?? 1) - 1;
      if (left > 0) this.#underWay.set(id, left);
      else this.#underWay.delete(id);
    };
  }

  #limitBodyTime(request: FastifyRequest): void {
    const timer = setTimeout(() => {
      if (!request.raw.complete) request.raw.destroy();
    }, this.#options.parts.limits.jsonBodyTimeoutMs);
    timer.unref();
    request.raw.once('close', () => clearTimeout(timer));
    request.raw.once('end', () => clearTimeout(timer));
  }

  #callOf(request: FastifyRequest, route: Route): Call {
    const { parts } = this.#options;
    const active = this.#activeOf(request);
    const bytes = route.body === 'bytes';
    const body =
      request.body instanceof Object && 'pipe' in request.body ? (request.body as Readable) : undefined;
    const source: ByteSource = bytes && body ? upload(body, parts.limits.uploadIdleMs) : nothing();
    const asked = {
      params: checked('path', route.params, request.params),
      query: checked('query', route.query, request.query),
      body: bytes ? undefined : checked('body', route.body as ZodType | undefined, request.body),
    };
    return {
      ...asked,
      headers: request.headers,
      socket: request.raw.socket,
      upload: source,
      principal: active.principal,
      authorization: active.authorization,
      get runtime() {
        return parts.runtimeFor(active.principal.tenant, { wakes: mayWake(active.principal) });
      },
      signal: active.gone.signal,
      requestId: request.id,
      parts,
    };
  }

  #activeOf(request: FastifyRequest): Active {
    const active = this.#active.get(request);
    if (!active) throw new CryoboxError('internal', 'The request was not begun');
    return active;
  }

  async #prepareUpgrade(request: FastifyRequest, route: Route): Promise<void> {
    if (!route.upgrade) return;
    if (!request.ws) {
      throw new CryoboxError('invalid_argument', 'This URL speaks WebSocket only; the request is no upgrade');
    }
    if (route.upgradeHeaders) this.#upgradeHeaders.set(request.raw, route.upgradeHeaders);
    this.#activeOf(request).upgrade = await route.upgrade(this.#callOf(request, route));
  }

  #upgraded(socket: WebSocket, request: FastifyRequest): void {
    const { metrics, logger } = this.#options.parts;
    metrics.socket(1);
    socket.once('close', () => metrics.socket(-1));
    const active = this.#active.get(request);
    const upgrade = active?.upgrade;
    if (!upgrade) {
      socket.terminate();
      return;
    }
    active.socket = socket;
    inRequest(request.id, () => upgrade(socket)).catch((error: unknown) => {
      logger.warn('a WebSocket ended badly', { requestId: request.id, error: messageOf(error) });
      socket.terminate();
    });
  }

  async #serve(request: FastifyRequest, reply: FastifyReply, route: Route): Promise<FastifyReply> {
    const call = this.#callOf(request, route);
    const { handle } = route;
    if (!handle) throw new CryoboxError('internal', `${route.operation} has no handler`);
    const key = request.headers['idempotency-key'];
    const once = route.idempotent && typeof key === 'string';
    if (route.progress && wantsLines(request)) {
      const lines = progressLines(
        async (onProgress) => {
          if (!once) return (await handle(call, onProgress)).json;
          return jsonOf(await this.#once(key, call, route, onProgress));
        },
        { errors: call.parts.errors, requestId: call.requestId },
      );
      return this.#send(reply, { status: 200, bytes: lines, contentType: ndjson });
    }
    if (!once) return this.#send(reply, await handle(call));
    const answer = await this.#once(key, call, route);
    if (answer.replayed) reply.header('idempotency-replayed', 'true');
    return reply.code(answer.status).headers(answer.headers).type(jsonMedia).send(answer.body);
  }

  #once(key: string, call: Call, route: Route, onProgress?: OnProgress) {
    const { tenant } = call.principal;
    const given = Object.keys(route.headers ?? {}).flatMap((name) => call.headers[name] ?? []);
    const hashed = route.body === 'bytes' ? new HashedUpload(call.upload) : undefined;
    const run = async (operationId: string): Promise<PlainAnswer> => {
      try {
        const asked = { ...call, runtime: call.runtime, operationId, ...(hashed ? { upload: hashed } : {}) };
        const { status = 200, headers = {}, json } = (await route.handle?.(asked, onProgress)) ?? {};
        return { status, headers, body: JSON.stringify(json), uploadHash: await hashed?.digest() };
      } catch (error) {
        const { status, body } = this.#told(toCryoboxError(error), call.requestId, route);
        return { status, headers: {}, body: JSON.stringify(body) };
      }
    };
    return this.#options.parts.idempotency.answer({
      key: { tenant, key },
      fingerprint: fingerprintOf([route.operation, call.params, call.query, call.body, ...given]),
      uploadHash: hashed && (() => hashed.digest()),
      run,
    });
  }

  async #send(reply: FastifyReply, answer: Answer): Promise<FastifyReply> {
    reply.headers({ ...answer.headers });
    if (answer.bytes) {
      const bytes = toReadable(await peek(answer.bytes));
      return reply
        .code(answer.status ?? 200)
        .type(answer.contentType ?? octets)
        .send(bytes);
    }
    const text = answer.jsonText ?? JSON.stringify(answer.json);
    if (text === undefined) return reply.code(answer.status ?? 204).send();
    return reply
      .code(answer.status ?? 200)
      .type(jsonMedia)
      .send(text);
  }

  /** An error as the clients of a route know it. */
  #told(error: CryoboxError, requestId: string, { foreign, dialect }: Route) {
    const { errors } = this.#options.parts;
    return foreign
      ? errors.shown(foreign.errorAnswer(error, requestId))
      : errors.answer(error, requestId, dialect);
  }

  #fail(thrown: unknown, request: FastifyRequest, reply: FastifyReply, route: Route): FastifyReply {
    const error = toCryoboxError(thrown);
    if (error.code === 'internal') {
      const { logger } = this.#options.parts;
      logger.error('request failed', {
        requestId: request.id,
        operation: route.operation,
        error: String(error.cause ?? error),
      });
    }
    const { status, body } = this.#told(error, request.id, route);
    return reply.code(status).type(jsonMedia).send(JSON.stringify(body));
  }
}

/** The headers of a route, for the description of the API: nothing checks them by it. */
function headersOf({ headers = {}, idempotent }: Route): { readonly headers?: ZodType } {
  const key = { 'idempotency-key': 'Names the request: made again within an hour, it gives the same answer' };
  const known = Object.entries({ ...(idempotent ? key : {}), ...headers });
  if (known.length === 0) return {};
  const shape = known.map(([name, purpose]) => [name, z.string().optional().describe(purpose)]);
  return { headers: z.object(Object.fromEntries(shape) as z.ZodRawShape) };
}
