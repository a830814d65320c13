/** Sessions of browsers: the key of who signed in, sealed in a cookie, and a token that only the page that signed in knows. */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { LRUCache } from 'lru-cache';
import { isSecret } from '../../base/secret.js';
import { CryoboxError } from '../../errors.js';

/** What a session is made from, and who may begin one without typing a key. */
export interface BrowserOptions {
  /** The secret behind cookies; sessions outlive a server whose next one has the same. @default one of this server */
  readonly seed?: Buffer;
  /** A text that is taken once, in the place of a key, and the key it stands for. @default none */
  readonly link?: { readonly token: string; readonly key: string };
}

/** The parts of a request that a session is found by. */
export interface BrowserRequest {
  readonly headers: IncomingHttpHeaders;
  readonly socket: Socket;
}

/** A session that has begun. */
export interface BegunSession {
  /** The `Set-Cookie` header of the answer. */
  readonly cookie: string;
  /** What requests with the cookie have to name. */
  readonly csrf: string;
  readonly expiresAt: Date;
}

interface Session {
  readonly id: string;
  readonly key: string;
  readonly expiresAt: number;
}

/** A working day: who comes back the next morning signs in again. */
const lifetimeMs = 12 * 3_600_000;
/** Sessions that were signed out of and have not expired yet; of more than that the oldest are forgotten. */
const maxEnded = 10_000;
const algorithm = 'aes-256-gcm';
const [keyBytes, nonceBytes, tagBytes, idBytes] = [32, 12, 16, 16];
/** A sealed key has some three hundred characters. */
const maxCookieLength = 2048;
/** WebSockets of a browser can send no header; they offer a protocol of this name, a dot and the token. */
const protocolName = 'cryobox.csrf';

/** Header that names the token. */
export const csrfHeader = 'x-cryobox-csrf';

/**
 * Cookies are sent by browsers whoever causes a request, so that a cookie alone opens nothing: the page also names the
 * token that it got when it signed in. Nothing is kept here, so that sessions go on when a server is restarted; a
 * session is its key, and ends with it.
 */
export class BrowserSessions {
  readonly #sealKey: Buffer;
  readonly #csrfKey: Buffer;
  readonly #ended = new LRUCache<string, true>({ max: maxEnded });
  #link: BrowserOptions['link'];

  constructor({ seed = randomBytes(keyBytes), link }: BrowserOptions = {}) {
    this.#sealKey = derived(seed, 'dashboard session');
    this.#csrfKey = derived(seed, 'dashboard csrf');
    this.#link = link;
  }

  /** The key that a one-time link stands for, once; else undefined. */
  takeLink(token: string): string | undefined {
    if (!this.#link || !isSecret(this.#link.token, token)) return undefined;
    const { key } = this.#link;
    this.#link = undefined;
    return key;
  }

  /** Begins a session of who has a key that was looked at. */
  begin(key: string, { socket }: BrowserRequest): BegunSession {
    const session: Session = {
      id: randomBytes(idBytes).toString('base64url'),
      key,
      expiresAt: Date.now() + lifetimeMs,
    };
    return {
      cookie: cookieOf(socket, this.#seal(session), lifetimeMs / 1000),
      csrf: this.#csrfOf(session),
      expiresAt: new Date(session.expiresAt),
    };
  }

  /** The `Authorization` header that a request's cookie stands for, whoever caused the request. Undefined: none. */
  find(request: BrowserRequest): string | undefined {
    const session = this.#sessionOf(request);
    return session && `Bearer ${session.key}`;
  }

  /** The same, of a request that our own page has made. Throws `permission_denied` when it does not name the token. */
  authorizationOf(request: BrowserRequest): string | undefined {
    const session = this.#sessionOf(request);
    if (!session) return undefined;
    if (isSecret(this.#csrfOf(session), namedToken(request.headers))) return `Bearer ${session.key}`;
    throw new CryoboxError('permission_denied', 'The request has a session but not its token', {
      hint: 'Sign in again in the dashboard; programs send `Authorization: Bearer` and a key, no cookie.',
    });
  }

  /** Ends the session of a request, and gives the `Set-Cookie` header that removes the cookie. */
  end(request: BrowserRequest): string {
    const session = this.#sessionOf(request);
    if (session) this.#ended.set(session.id, true);
    return cookieOf(request.socket, '', 0);
  }

  #sessionOf({ headers, socket }: BrowserRequest): Session | undefined {
    const sealed = cookieValue(headers.cookie, cookieName(socket));
    const session = sealed === undefined ? undefined : this.#open(sealed);
    if (!session || session.expiresAt <= Date.now() || this.#ended.has(session.id)) return undefined;
    return session;
  }

  #csrfOf({ id }: Session): string {
    return createHmac('sha256', this.#csrfKey).update(id).digest('base64url');
  }

  #seal(session: Session): string {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithm, this.#sealKey, nonce);
    const text = Buffer.concat([cipher.update(JSON.stringify(session), 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64url');
  }

  #open(sealed: string): Session | undefined {
    const bytes = Buffer.from(sealed, 'base64url');
    if (bytes.length <= nonceBytes + tagBytes) return undefined;
    const nonce = bytes.subarray(0, nonceBytes);
    const decipher = createDecipheriv(algorithm, this.#sealKey, nonce, { authTagLength: tagBytes });
    decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
    try {
      const text = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]);
      return JSON.parse(text.toString('utf8')) as Session;
    } catch {
      // Of another home, or made up.
      return undefined;
    }
  }
}

function derived(seed: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', seed, '', `cryobox ${purpose}`, keyBytes));
}

const cookiePrefix = 'cryobox_session_';

/** Whether a cookie of that name is one of ours: nobody behind the server is to see it. */
export const isSessionCookie = (name: string): boolean => name.startsWith(cookiePrefix);

/** Browsers keep cookies by host and not by port, so that servers beside each other need names of their own. */
function cookieName({ localPort }: Socket): string {
  return `${cookiePrefix}${localPort}`;
}

function cookieOf(socket: Socket, value: string, seconds: number): string {
  const secure = 'encrypted' in socket ? '; Secure' : '';
  return `${cookieName(socket)}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure}`;
}

function cookieValue(header: string | undefined, name: string): string | undefined {
  for (const part of (header ?? '').split(';')) {
    const [key, value = ''] = part.trim().split('=', 2);
    if (key === name && value !== '' && value.length <= maxCookieLength) return value;
  }
  return undefined;
}

function namedToken(headers: IncomingHttpHeaders): string {
  const named = headers[csrfHeader];
  if (typeof named === 'string') return named;
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((protocol) => protocol.trim());
  const prefix = `${protocolName}.`;
  return offered.find((protocol) => protocol.startsWith(prefix))?.slice(prefix.length) ?? '';
}
