import swagger from '@fastify/swagger';
import websocket from '@fastify/websocket';
import Fastify, { type FastifyInstance, LogController } from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import type { Runtime } from '../api/index.js';
import { type Logger, silentLogger } from '../base/log.js';
import { CryoboxError } from '../errors.js';
import { maxInputFrameBytes } from '../wire/execution.js';
import type { Authenticator } from './auth.js';
import { errorAnswer, toCryoboxError } from './errors.js';
import { Guard, requestIdOf, rewriteUrl } from './guard.js';
import { Idempotency, MemoryIdempotencyStore } from './idempotency.js';
import { defaultLimits, RateLimiter, type ServerLimits } from './limits.js';
import {
  createListener,
  type ListenAddress,
  type ListenOptions,
  listen,
  type TlsOptions,
  unlisten,
} from './listen.js';
import { ServerMetrics } from './metrics.js';
import { Mount } from './mount.js';
import type { Parts } from './parts.js';
import { routes } from './routes/index.js';
import { Sessions } from './sessions.js';
import { Tunnels } from './tunnels.js';

/** What a server is made of. */
export interface ServerOptions {
  /** What the principals of a tenant see; the empty text is the default tenant. Asked for at every request. */
  readonly runtimeFor: (tenant: string) => Runtime;
  /** Null: nobody is asked for a key, and only this host is let in. Not used on a unix socket. */
  readonly authenticator: Authenticator | null;
  /** @default silent */
  readonly logger?: Logger;
  readonly limits?: Partial<ServerLimits>;
  /** One for all servers of an engine. @default in memory */
  readonly idempotency?: Idempotency;
  readonly tls?: TlsOptions;
  /** Wildcard name that leads to this server, for tunnels: `<port>-<secret>.<tunnelDomain>`. */
  readonly tunnelDomain?: string;
  /** Shown by `/healthz` and OpenAPI. */
  readonly version?: string;
}

/** A server of the REST API. */
export interface Server {
  /** Starts to listen; once. Default: 127.0.0.1, port 8100. `config_error` when that cannot be. */
  listen(options?: ListenOptions): Promise<ListenAddress>;
  /**
   * Stops to listen, lets go of attached streams, waits for the requests under way for at most five seconds, then
   * cancels them. Boxes and commands go on.
   */
  close(): Promise<void>;
  /** Milliseconds since the last request ended; 0 while one is under way. */
  quietMs(): number;
}

/** Longest path parameter: a reference of an image, percent-encoded. */
const maxParamLength = 2048;
const closeGraceMs = 5000;
const closePollMs = 20;

function partsOf(options: ServerOptions, limits: ServerLimits, openapi: () => unknown): Parts {
  const logger = options.logger ?? silentLogger;
  return {
    runtimeFor: options.runtimeFor,
    authenticator: options.authenticator,
    logger,
    limits,
    metrics: new ServerMetrics(),
    idempotency: options.idempotency ?? new Idempotency(new MemoryIdempotencyStore()),
    sessions: new Sessions({ attachWaitMs: limits.attachWaitMs, orphanMs: limits.orphanMs, logger }),
    tunnels: new Tunnels({ domain: options.tunnelDomain, logger }),
    version: options.version ?? '0.0.0',
    openapi,
  };
}

/** JSON bodies of bounded size; none and an empty one are the same. */
function takeJson(app: FastifyInstance, limits: ServerLimits): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<string>(
    'application/json',
    { parseAs: 'string', bodyLimit: limits.jsonBodyBytes },
    (request, body, done) => {
      if (body.length === 0) done(null, undefined);
      else void parse(request, body, done);
    },
  );
}

/** Bodies of any kind and length, as streams. */
function takeBytes(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
}

async function describe(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Cryobox', version, description: 'Small virtual machines: frozen, forked, rewound.' },
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
      security: [{ key: [] }],
    },
    transform: jsonSchemaTransform,
    exposeHeadRoutes: true,
  });
}

async function mountAll(app: FastifyInstance, mount: Mount, limits: ServerLimits): Promise<void> {
  await app.register((json, _options, done) => {
    takeJson(json, limits);
    for (const route of routes) if (route.body !== 'bytes') mount.add(json, route);
    done();
  });
  await app.register((bytes, _options, done) => {
    takeBytes(bytes);
    for (const route of routes) if (route.body === 'bytes') mount.add(bytes, route);
    done();
  });
}

/** Errors outside of any route. */
function catchAll(app: FastifyInstance): void {
  app.setNotFoundHandler((request, reply) => {
    const missing = new CryoboxError(
      'not_found',
      `There is no ${request.method} ${request.url.split('?')[0]}`,
      {
        hint: 'GET /v1/openapi.json lists every operation.',
      },
    );
    const { status, body } = errorAnswer(missing, request.id);
    return reply.code(status).send(body);
  });
  app.setErrorHandler((error, request, reply) => {
    const { status, body } = errorAnswer(toCryoboxError(error), request.id);
    return reply.code(status).send(body);
  });
}

function buildApp(options: ServerOptions, parts: Parts): FastifyInstance {
  const app = Fastify({
    serverFactory: (handler) => createListener(handler, parts.limits, options.tls),
    rewriteUrl,
    genReqId: requestIdOf,
    requestIdHeader: false,
    exposeHeadRoutes: false,
    // Requests are logged by the mount, with what it knows about them.
    logController: new LogController({ disableRequestLogging: true }),
    routerOptions: { maxParamLength },
    bodyLimit: parts.limits.jsonBodyBytes,
  });
  // Requests are checked in one place of ours, and answers are JSON text by then.
  app.setValidatorCompiler(() => (value) => ({ value }));
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  app.server.on('connect', (request, socket, head) => parts.tunnels.connect(request, socket, head));
  catchAll(app);
  return app;
}

async function wait(until: () => boolean, forMs: number): Promise<void> {
  const deadline = performance.now() + forMs;
  while (!until() && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, closePollMs));
  }
}

/** A server over runtimes: every operation of {@link Runtime} as v1 of the REST API, and what ours adds to it. */
export function createServer(options: ServerOptions): Server {
  const limits: ServerLimits = { ...defaultLimits, ...options.limits };
  const active = new Set<AbortController>();
  let app: FastifyInstance | undefined;
  const parts = partsOf(options, limits, () => app?.swagger());
  let listening: ListenOptions | undefined;
  let lastEnd = performance.now();

  return {
    async listen(where: ListenOptions = {}): Promise<ListenAddress> {
      const local = 'socketPath' in where;
      const perSecond = limits.requestsPerSecond;
      const limiter = local || perSecond === null ? null : new RateLimiter(perSecond, limits.requestBurst);
      app = buildApp(options, parts);
      app.addHook('onResponse', async () => {
        lastEnd = performance.now();
      });
      await describe(app, parts.version);
      await app.register(websocket, {
        options: { maxPayload: maxInputFrameBytes, perMessageDeflate: false },
        errorHandler: (_error, socket) => socket.terminate(),
      });
      const guard = new Guard(parts, { local, limiter });
      await mountAll(app, new Mount({ parts, guard, active }), limits);
      listening = where;
      return listen(app, where, {
        authenticated: options.authenticator !== null,
        tls: options.tls !== undefined,
      });
    },
    quietMs(): number {
      if (active.size > 0 || (app?.websocketServer.clients.size ?? 0) > 0) lastEnd = performance.now();
      return performance.now() - lastEnd;
    },
    async close(): Promise<void> {
      if (!app) return;
      await unlisten(listening);
      app.server.close();
      for (const client of app.websocketServer.clients) client.terminate();
      parts.tunnels.close();
      await parts.sessions.close();
      app.server.closeIdleConnections();
      await wait(() => active.size === 0, closeGraceMs);
      for (const gone of active) gone.abort();
      app.server.closeAllConnections();
      await app.close();
    },
  };
}
