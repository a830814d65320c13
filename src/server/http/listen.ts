import { randomBytes } from 'node:crypto';
import { chmod, open, rename, rm } from 'node:fs/promises';
import { createServer as createHttpServer, type Server as HttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { basename, dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import type { ServerLimits } from './limits.js';

/** Where to listen: TCP, or a unix socket only its owner can open. */
export type ListenOptions =
  | { readonly host?: string; readonly port?: number }
  | { readonly socketPath: string };

/** Where a server listens. */
export interface ListenAddress {
  /** Such as `http://127.0.0.1:8100`; of a unix socket `unix:PATH`. */
  readonly url: string;
}

/** Certificate and key, PEM. */
export interface TlsOptions {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

const defaultHost = '127.0.0.1';
/** The port v1 clients know (contract, section 1.2). */
const defaultPort = 8100;
/** Bytes read from or written to one connection at a time: streams of hundreds of MB run through here. */
const streamBufferBytes = 256 * 1024;
const checkConnectionsMs = 5000;
const keepAliveMs = 72_000;
/** Finds clients that vanished without a word: libuv then probes ten times a second apart. */
const tcpKeepAliveMs = 30_000;

/** The HTTP server underneath. */
export function createListener(
  handler: RequestListener,
  limits: ServerLimits,
  tls: TlsOptions | undefined,
  logger: Logger,
): HttpServer {
  const options = {
    headersTimeout: limits.headersTimeoutMs,
    // Bodies may be as long as an archive; each kind has its own limit.
    requestTimeout: 0,
    keepAliveTimeout: keepAliveMs,
    keepAlive: true,
    keepAliveInitialDelay: tcpKeepAliveMs,
    connectionsCheckingInterval: Math.min(checkConnectionsMs, limits.headersTimeoutMs),
    // A handshake of TLS comes before the head.
    handshakeTimeout: limits.headersTimeoutMs,
    highWaterMark: streamBufferBytes,
    noDelay: true,
  };
  // A tunnel's client may end its half and wait for the answer: servers without TLS always allow that.
  const server = tls
    ? createHttpsServer({ ...options, ...tls, allowHalfOpen: true }, handler)
    : createHttpServer(options, handler);
  // A connection that cannot be taken, for want of a descriptor, costs its client another try and nobody anything else.
  server.on('error', (error) => logger.warn('cannot take a connection', { reason: messageOf(error) }));
  return server;
}

/** Whether an address or name to listen on is one of the loopback interface. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/**
 * Listens under a name nobody knows, takes the rights of others away, then moves the socket to its place: it is
 * never there with wider rights, and one that a crash left behind is replaced. The kernel is given a path through a
 * descriptor of the directory, which is never too long for it (unix(7), `sun_path`).
 */
async function listenOnSocket(app: FastifyInstance, path: string): Promise<void> {
  const temporary = `${basename(path)}.${randomBytes(4).toString('hex')}`;
  const directory = await open(dirname(path), 'r');
  try {
    await app.listen({ path: `/proc/self/fd/${directory.fd}/${temporary}` });
  } finally {
    await directory.close();
  }
  await chmod(join(dirname(path), temporary), 0o600);
  await rename(join(dirname(path), temporary), path);
}

/** Listens; `config_error` when that is not possible, or would open the API to other hosts without keys. */
export async function listen(
  app: FastifyInstance,
  options: ListenOptions,
  facts: { readonly authenticated: boolean; readonly tls: boolean },
): Promise<ListenAddress> {
  try {
    if ('socketPath' in options) {
      await listenOnSocket(app, options.socketPath);
      return { url: `unix:${options.socketPath}` };
    }
    const host = options.host ?? defaultHost;
    if (!facts.authenticated && !isLoopback(host)) {
      throw new CryoboxError('config_error', `Listening on ${host} would let other hosts in without a key`, {
        hint: 'Make a key first (`cryobox keys create`), or listen on 127.0.0.1.',
      });
    }
    await app.listen({ host, port: options.port ?? defaultPort });
    const { port } = app.server.address() as AddressInfo;
    const name = host.includes(':') ? `[${host}]` : host;
    return { url: `${facts.tls ? 'https' : 'http'}://${name}:${port}` };
  } catch (error) {
    if (error instanceof CryoboxError) throw error;
    throw new CryoboxError('config_error', `The server cannot listen: ${messageOf(error)}`, { cause: error });
  }
}

/** Removes the socket of {@link listen}. */
export async function unlisten(options: ListenOptions | undefined): Promise<void> {
  if (options && 'socketPath' in options) await rm(options.socketPath, { force: true });
}
