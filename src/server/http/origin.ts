/** Keeps web pages that are not ours from using the API through the browser of somebody who may (Fetch standard, "Origin"). */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { CryoboxError } from '../../errors.js';

/** Which names and web pages a server answers to, beside its own. */
export interface OriginOptions {
  /**
   * Names, `name` or `name:port`, that a request without a key may be for, beside those of the loopback interface.
   * @default none
   */
  readonly allowedHosts?: readonly string[];
  /** Origins, such as `https://dash.example`, whose pages may use the API. @default none */
  readonly allowedOrigins?: readonly string[];
}

const loopbackNames = new Set(['localhost', '[::1]']);
/** What a browser says of a request that no other page caused (Fetch Metadata, `Sec-Fetch-Site`). */
const ownSites = new Set(['same-origin', 'none']);

/** Host and port of a `Host` header; the port of the scheme when it has none. Undefined when it is no host. */
function parseHost(text: string, scheme: 'http:' | 'https:'): { name: string; port: number } | undefined {
  if (!/^[^\s/?#@\\]+$/.test(text) || !URL.canParse(`${scheme}//${text}`)) return undefined;
  const { hostname, port } = new URL(`${scheme}//${text}`);
  const usual = scheme === 'https:' ? 443 : 80;
  return { name: hostname, port: port === '' ? usual : Number(port) };
}

function isLoopbackName(name: string): boolean {
  return loopbackNames.has(name) || (isIP(name) === 4 && name.startsWith('127.'));
}

function refused(message: string, hint: string): CryoboxError {
  return new CryoboxError('permission_denied', message, { hint });
}

/** An origin as browsers write it: `https://dash.example`. Throws `invalid_argument` for anything else. */
function checkedOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && url.origin !== 'null' && `${url.origin}/` === url.href) return url.origin;
  throw new CryoboxError('invalid_argument', `${JSON.stringify(text)} is no origin of web pages`, {
    hint: 'Write scheme, name and port, such as https://dash.example or http://localhost:3000.',
  });
}

function checkedHost(text: string): string {
  if (parseHost(text, 'http:')) return text.toLowerCase();
  throw new CryoboxError('invalid_argument', `${JSON.stringify(text)} is no name of a host`, {
    hint: 'Write name or name:port, such as box.example or box.example:8100.',
  });
}

/** Decides by `Host`, `Origin` and `Sec-Fetch-Site` whether a request may be served at all, upgrades included. */
export class OriginPolicy {
  readonly #hosts: ReadonlySet<string>;
  readonly #origins: ReadonlySet<string>;
  /** Whether this is the engine's own socket: it has no name, so no page is its own. */
  readonly #local: boolean;

  /** Throws `invalid_argument` for names and origins that cannot be. */
  constructor(options: OriginOptions, local: boolean) {
    this.#hosts = new Set((options.allowedHosts ?? []).map(checkedHost));
    this.#origins = new Set((options.allowedOrigins ?? []).map(checkedOrigin));
    this.#local = local;
  }

  /** Whether pages of an origin may use the API by an option. */
  allows(origin: string): boolean {
    return this.#origins.has(origin);
  }

  /** `invalid_argument` for two `Host` headers, or a request line that names another host than the header. */
  checkForm({ rawHeaders, headers, method, url = '' }: IncomingMessage): void {
    const hosts = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host').length;
    if (hosts > 1) throw new CryoboxError('invalid_argument', 'The request has more than one Host header');
    if (url.startsWith('/') || url === '*' || method === 'CONNECT') return;
    const named = URL.canParse(url) ? new URL(url).host : undefined;
    const host = parseHost(headers.host ?? '', url.startsWith('https:') ? 'https:' : 'http:');
    const own = host && parseHost(named ?? '', url.startsWith('https:') ? 'https:' : 'http:');
    if (own && own.name === host.name && own.port === host.port) return;
    throw new CryoboxError('invalid_argument', 'The request line names another host than the Host header');
  }

  /**
   * `permission_denied` unless the request is for a name of the loopback interface and the port it came to, or for one
   * that is allowed: any page can make a name of its own lead here, and what it is asked by that name is its own to read.
   */
  checkHost({ headers, socket }: IncomingMessage): void {
    if (this.#local) return;
    const text = (headers.host ?? '').toLowerCase();
    const host = parseHost(text, 'encrypted' in socket ? 'https:' : 'http:');
    if (host && isLoopbackName(host.name) && host.port === socket.localPort) return;
    if (host && (this.#hosts.has(text) || this.#hosts.has(host.name))) return;
    throw refused(
      `Without API keys this server answers to localhost:${socket.localPort} only, not to ${JSON.stringify(text)}`,
      'Use http://localhost and the port, start the server with --allow-host NAME, or make a key (`cryobox keys create`).',
    );
  }

  /** `permission_denied` when a browser says that a page of another origin caused the request. */
  checkOrigin({ headers }: IncomingMessage): void {
    const { origin, host = '' } = headers;
    if (origin !== undefined) {
      if (this.#origins.has(origin) || (!this.#local && isOriginOf(origin, host))) return;
      throw refused(
        `Pages of ${JSON.stringify(origin)} may not use this server`,
        'Start the server with --allow-origin and that origin if you trust its pages with your boxes.',
      );
    }
    const site = headers['sec-fetch-site'];
    if (site === undefined || (typeof site === 'string' && ownSites.has(site))) return;
    throw refused(
      'A page of another site caused this request, and may not use this server',
      'Open the address by itself, or start the server with --allow-origin and the origin of that page.',
    );
  }
}

/** Whether pages of an origin were had from that host. A proxy may have taken TLS off, so the scheme is the origin's. */
function isOriginOf(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const { protocol, host: ownHost } = new URL(origin);
  if (protocol !== 'http:' && protocol !== 'https:') return false;
  const [own, asked] = [parseHost(ownHost, protocol), parseHost(host, protocol)];
  return own !== undefined && asked !== undefined && own.name === asked.name && own.port === asked.port;
}
