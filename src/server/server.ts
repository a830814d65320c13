import { EventEmitter } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import swagger from '@fastify/swagger';
import websocket from '@fastify/websocket';
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Runtime } from '../api/index.js';
import { checkJson } from '../base/json.js';
import { type Logger, silentLogger } from '../base/log.js';
import { packageVersion } from '../base/version.js';
import { CryoboxError, messageOf } from '../errors.js';
import { maxInputFrameBytes } from '../wire/execution.js';
import {
  createContext,
  type E2bContext,
  type E2bOptions,
  e2bPorts,
  e2bRoutes,
  rewrittenUrl,
} from './e2b/index.js';
import { AccessWatch } from './http/access-watch.js';
import { type Authenticator, holderOf, needsKey, type RuntimeAccess } from './http/auth.js';
import { type BrowserOptions, BrowserSessions } from './http/browser-sessions.js';
import { answerNoRequest } from './http/client-errors.js';
import { Connections } from './http/connections.js';
import { ErrorWriter, type HiddenDirectory, toCryoboxError } from './http/errors.js';
import { Guard, requestIdOf, rewriteUrl } from './http/guard.js';
import { Idempotency, MemoryIdempotencyStore } from './http/idempotency.js';
import { defaultLimits, RateLimiter, type ServerLimits } from './http/limits.js';
import {
  createListener,
  type ListenAddress,
  type ListenOptions,
  listen,
  type TlsOptions,
  unlisten,
} from './http/listen.js';
import { ServerMetrics } from './http/metrics.js';
import { Mount } from './http/mount.js';
import { completeDocument, describeOperation } from './http/openapi.js';
import { type OriginOptions, OriginPolicy } from './http/origin.js';
import type { EngineControl, Parts } from './http/parts.js';
import type { PortDialect } from './http/ports/dialect.js';
import { PortProxy } from './http/ports/proxy.js';
import type { Route } from './http/route.js';
import { Sessions } from './http/sessions.js';
import { type TunnelSource, Tunnels } from './http/tunnels.js';
import { mcpRoutes } from './mcp/index.js';
import { uiRoutes } from './ui/index.js';
import { routes } from './v1/index.js';
import { type PreviewSource, previewPorts, tunnelPorts } from './v1/preview-ports.js';

/** What a server is made of. */
export interface ServerOptions extends OriginOptions {
  /**
   * What the principals of a tenant see; the empty text is the default tenant. Asked for at every request, with what the
   * key lets it do.
   */
  readonly runtimeFor: (tenant: string, access: RuntimeAccess) => Runtime;
  /** Null: nobody is asked for a key, and only this host is let in. To be null on a unix socket. */
  readonly authenticator: Authenticator | null;
  /** @default silent */
  readonly logger?: Logger;
  readonly limits?: Partial<ServerLimits>;
  /** One for all servers of an engine. @default in memory */
  readonly idempotency?: Idempotency;
  readonly tls?: TlsOptions;
  /** Wildcard name that leads to this server, for tunnels: `<port>-<secret>.<tunnelDomain>`. */
  readonly tunnelDomain?: string;
  /** Addresses of ports of boxes, which are served beside the API. @default none */
  readonly previews?: PreviewSource;
  /** Serves E2B's API as well. @default not */
  readonly e2b?: E2bOptions;
  /** Sessions of the dashboard. @default of this server only, begun with a key */
  readonly browser?: BrowserOptions;
  /** Shown by `/healthz` and OpenAPI. */
  readonly version?: string;
  /** The engine behind the socket of a home. */
  readonly engine?: EngineControl;
  /** Directories of the host that errors do not tell the place of. @default none, for callers who are users of the host */
  readonly hiddenDirectories?: readonly HiddenDirectory[];
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
  /** Names of the operations under way that closing would cut off. */
  underWay(): string[];
}

/** Longest path parameter: a reference of an image, percent-encoded. */
const maxParamLength = 2048;
const closeGraceMs = 5000;
const closePollMs = 20;

function partsOf(
  options: ServerOptions,
  limits: ServerLimits,
  openapi: () => unknown,
  closing: AbortSignal,
): Parts {
  const { authenticator, logger = silentLogger } = options;
  const access = new AccessWatch((header) => holderOf(authenticator, header), logger);
  return {
    runtimeFor: options.runtimeFor,
    authenticator,
    access,
    browsers: new BrowserSessions(options.browser),
    connections: new Connections(limits),
    errors: new ErrorWriter(options.hiddenDirectories),
    logger,
    limits,
    metrics: new ServerMetrics(),
    idempotency: options.idempotency ?? new Idempotency(new MemoryIdempotencyStore()),
    sessions: new Sessions({ attachWaitMs: limits.attachWaitMs, orphanMs: limits.orphanMs, logger }),
    tunnels: new Tunnels({ domain: options.tunnelDomain, logger, access, publicBox: publicBoxOf(options) }),
    version: options.version ?? packageVersion(),
    engine: options.engine,
    closing,
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
      if (body.length === 0) return done(null, undefined);
      try {
        checkJson(body, { maxValues: limits.jsonBodyValues });
      } catch (error) {
        return done(new CryoboxError('invalid_argument', `The body cannot be read: ${messageOf(error)}`));
      }
      // It answers by the callback; its type also allows a promise.
      Promise.resolve(parse(request, body, done)).catch(done);
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
    transform: describeOperation,
    transformObject: completeDocument(routes),
    exposeHeadRoutes: true,
  });
}

async function mountAll(
  app: FastifyInstance,
  mount: Mount,
  limits: ServerLimits,
  routes: readonly Route[],
): Promise<void> {
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
function catchAll(app: FastifyInstance, errors: ErrorWriter): void {
  app.setNotFoundHandler((request, reply) => {
    const missing = new CryoboxError(
      'not_found',
      `There is no ${request.method} ${request.url.split('?')[0]}`,
      {
        hint: 'GET /v1/openapi.json lists every operation.',
      },
    );
    const { status, body } = errors.answer(missing, request.id);
    return reply.code(status).send(body);
  });
  app.setErrorHandler((error, request, reply) => {
    const { status, body } = errors.answer(toCryoboxError(error), request.id);
    return reply.code(status).send(body);
  });
}

/** Spare connections below the limit of {@link Connections}, which decides which of them go. */
const spareConnections = 64;

/** How long a browser may remember what a page of an allowed origin may send. */
const preflightSeconds = 600;

/** Refuses what a page of another origin asks for, whatever route it is for, and lets browsers show answers to allowed ones. */
function guardOrigins(app: FastifyInstance, policy: OriginPolicy, parts: Parts): void {
  app.addHook('onRequest', async (request, reply) => {
    policy.checkForm(request.raw);
    policy.checkOrigin(request.raw);
    if (!(await needsKey(parts.authenticator))) policy.checkHost(request.raw);
    const { origin } = request.headers;
    if (origin === undefined || !policy.allows(origin)) return;
    reply.headers({
      'access-control-allow-origin': origin,
      'access-control-expose-headers': '*',
      vary: 'Origin',
    });
    const wanted = request.headers['access-control-request-headers'];
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined)
      return;
    reply.headers({
      'access-control-allow-methods': 'GET, HEAD, PUT, POST, DELETE',
      'access-control-allow-headers': wanted ?? '',
      'access-control-max-age': preflightSeconds,
    });
    await reply.code(204).send();
  });
  app.server.on('connect', (request, socket, head) => {
    socket.on('error', () => undefined);
    try {
      policy.checkForm(request);
      policy.checkOrigin(request);
    } catch (error) {
      const { status } = toCryoboxError(error);
      socket.end(`HTTP/1.1 ${status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
      return;
    }
    parts.tunnels.connect(request, socket, head);
  });
}

/**
 * Ends the connection of an upgrade that is answered instead: Node has handed it over, and neither reads another request
 * from it nor closes it.
 */
function endAfter(request: FastifyRequest, reply: FastifyReply): void {
  reply.header('connection', 'close');
  reply.raw.once('finish', () => request.raw.socket.destroySoon());
}

function buildApp(
  options: ServerOptions,
  parts: Parts,
  { local, ports }: { readonly local: boolean; readonly ports: PortProxy },
): FastifyInstance {
  const app = Fastify({
    serverFactory: (handler) =>
      createListener(
        (request, response) => {
          if (!ports.serve(request, response)) handler(request, response);
        },
        parts.limits,
        options.tls,
        parts.logger,
      ),
    rewriteUrl: (request) => (options.e2b && rewrittenUrl(request)) ?? rewriteUrl(request),
    genReqId: requestIdOf,
    requestIdHeader: false,
    exposeHeadRoutes: false,
    // Requests are logged by the mount, with what it knows about them.
    logController: new LogController({ disableRequestLogging: true }),
    routerOptions: { maxParamLength },
    bodyLimit: parts.limits.jsonBodyBytes,
    clientErrorHandler: (error, socket) => answerNoRequest(error, socket, parts.errors),
  });
  // Requests are checked in one place of ours, and answers are JSON text by then.
  app.setValidatorCompiler(() => (value) => ({ value }));
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  app.addHook('onSend', async (request, reply) => {
    if (request.raw.headers.upgrade !== undefined) endAfter(request, reply);
  });
  guardOrigins(app, new OriginPolicy(options, local), parts);
  app.server.maxConnections = parts.connections.max + (local ? 0 : spareConnections);
  if (!local) parts.connections.watch(app.server);
  catchAll(app, parts.errors);
  return app;
}

function e2bContextOf({ runtimeFor }: ServerOptions, options: E2bOptions, parts: Parts): E2bContext {
  const { logger, errors } = parts;
  return createContext(options, {
    runtimeFor: (tenant) => runtimeFor(tenant, { wakes: true }),
    logger,
    errors,
  });
}

/** What a tunnel to a port of a public box leads to, by the label of its name. */
function publicBoxOf({ previews, runtimeFor }: ServerOptions): TunnelSource | undefined {
  if (!previews) return undefined;
  return async (label) => {
    const found = await previews.find(label);
    const box = found && (await runtimeFor(found.tenant, { wakes: true }).get(found.boxId));
    return box ? { box, watch: found.watch } : undefined;
  };
}

function dialectsOf(
  { previews: source, runtimeFor }: ServerOptions,
  { errors, tunnels }: Parts,
  e2b: E2bContext | undefined,
): PortDialect[] {
  const withWakes = (tenant: string): Runtime => runtimeFor(tenant, { wakes: true });
  return [
    tunnelPorts(tunnels, errors) as PortDialect,
    ...(source ? [previewPorts({ source, runtimeFor: withWakes, errors }) as PortDialect] : []),
    ...(e2b ? [e2bPorts(e2b) as PortDialect] : []),
  ];
}

/** Upgrades that are for no port of a box, as a server of their own: the library of WebSockets takes all of a server. */
function ownUpgrades(server: HttpServer, ports: PortProxy): HttpServer {
  const own = new EventEmitter();
  server.on('upgrade', (request, socket, head) => {
    if (!ports.upgrade(request, socket, head)) own.emit('upgrade', request, socket, head);
  });
  return own as HttpServer;
}

function isOperation(route: Route): boolean {
  return !route.passive && !route.upgrade;
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
  const active = new Map<AbortController, Route>();
  const closing = new AbortController();
  let app: FastifyInstance | undefined;
  const parts = partsOf(options, limits, () => app?.swagger(), closing.signal);
  const e2b = options.e2b && e2bContextOf(options, options.e2b, parts);
  const ports = new PortProxy({ ...parts, dialects: dialectsOf(options, parts, e2b) });
  let listening: ListenOptions | undefined;
  let lastEnd = performance.now();

  return {
    async listen(where: ListenOptions = {}): Promise<ListenAddress> {
      const local = 'socketPath' in where;
      const perSecond = limits.requestsPerSecond;
      const limiter = local || perSecond === null ? null : new RateLimiter(perSecond, limits.requestBurst);
      app = buildApp(options, parts, { local, ports });
      app.addHook('onResponse', async () => {
        lastEnd = performance.now();
      });
      await describe(app, parts.version);
      await app.register(websocket, {
        options: {
          maxPayload: maxInputFrameBytes,
          perMessageDeflate: false,
          server: ownUpgrades(app.server, ports),
        },
        errorHandler: (_error, socket) => socket.terminate(),
      });
      const guard = new Guard(parts, { local, limiter });
      const mount = new Mount({ parts, guard, active });
      app.websocketServer.on('headers', (lines, request) => {
        for (const [name, value] of Object.entries(mount.headersOf(request))) lines.push(`${name}: ${value}`);
      });
      const all = [...routes, ...uiRoutes(), ...mcpRoutes(), ...(e2b ? e2bRoutes(e2b) : [])];
      await mountAll(app, mount, limits, all);
      listening = where;
      return listen(app, where, {
        authenticated: await needsKey(options.authenticator),
        tls: options.tls !== undefined,
      });
    },
    quietMs(): number {
      if (active.size > 0 || (app?.websocketServer.clients.size ?? 0) > 0) lastEnd = performance.now();
      return performance.now() - lastEnd;
    },
    underWay(): string[] {
      return [...active.values()].filter(isOperation).map(({ operation }) => operation);
    },
    async close(): Promise<void> {
      if (!app) return;
      closing.abort();
      await unlisten(listening);
      app.server.close();
      // Who listens to events does so until the server ends.
      for (const [gone, route] of active) if (route.passive && route.method === 'GET') gone.abort();
      for (const client of app.websocketServer.clients) client.terminate();
      parts.access.close();
      parts.tunnels.close();
      ports.close();
      await parts.sessions.close();
      app.server.closeIdleConnections();
      await wait(() => active.size === 0, closeGraceMs);
      for (const gone of active.keys()) gone.abort();
      app.server.closeAllConnections();
      await app.close();
    },
  };
}
