import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { isSessionCookie } from '../browser-sessions.js';

/** Who a port is for: everybody, or who has a token. */
export type PortAccess = 'public' | PrivateAccess;

/**
 * A port that asks for a token: in a header, in a cookie, or once in the query of a page that a browser opens, which is
 * answered with that cookie and the address without the token.
 */
export interface PrivateAccess {
  /** Whether a text is the token, in a time that tells nothing about it. */
  isToken(text: string): boolean;
  /** Of the header, in lower case, and of the parameter and the cookie. The box sees none of them. */
  readonly name: string;
}

/** What the token of a request leads to. */
export type Admission =
  | { readonly kind: 'admitted' | 'missing' | 'wrong' }
  /** The token came in the query: the browser is to keep it as a cookie, and ask again without. */
  | { readonly kind: 'redirect'; readonly location: string; readonly cookie: string };

/** Path and query without one parameter; all others stay as they were written. */
function withoutParameter(url: string, name: string): { readonly url: string; readonly values: string[] } {
  const at = url.indexOf('?');
  if (at < 0) return { url, values: [] };
  const values: string[] = [];
  const rest = url
    .slice(at + 1)
    .split('&')
    .filter((pair) => {
      const [found] = new URLSearchParams(pair);
      if (found?.[0] !== name) return true;
      values.push(found[1]);
      return false;
    });
  if (values.length === 0) return { url, values };
  return { url: url.slice(0, at) + (rest.length > 0 ? `?${rest.join('&')}` : ''), values };
}

/** Name and value of each cookie in the text of a `Cookie` header (RFC 6265, section 4.2.1). */
function cookiesIn(text: string): { readonly name: string; readonly value: string; readonly pair: string }[] {
  return text.split(';').map((each) => {
    const pair = each.trim();
    const at = pair.indexOf('=');
    return { name: pair.slice(0, Math.max(at, 0)), value: pair.slice(at + 1), pair };
  });
}

/** The same without those that are no business of a box: its token, and sessions of the dashboard. */
function withoutOwnCookies(text: string, tokenName: string | undefined): string {
  return cookiesIn(text)
    .filter(({ name }) => name !== tokenName && !isSessionCookie(name))
    .map(({ pair }) => pair)
    .join('; ');
}

/** Whether a browser is shown a page by this request. Only then is there anybody to keep a cookie. */
function opensPage({ method, headers }: IncomingMessage): boolean {
  return (
    method === 'GET' && headers.upgrade === undefined && (headers.accept?.includes('text/html') ?? false)
  );
}

/** Whether a request may go to a port. */
export function admit(request: IncomingMessage, access: PortAccess): Admission {
  if (access === 'public') return { kind: 'admitted' };
  const { name } = access;
  const asked = withoutParameter(request.url ?? '/', name);
  const given = [
    ...headerValues(request.headers, name),
    ...cookiesIn(request.headers.cookie ?? '')
      .filter((cookie) => cookie.name === name)
      .map(({ value }) => value),
    ...asked.values,
  ];
  if (given.length === 0) return { kind: 'missing' };
  const token = given.find((each) => access.isToken(each));
  if (token === undefined) return { kind: 'wrong' };
  if (asked.values.length === 0 || !opensPage(request)) return { kind: 'admitted' };
  const secure = 'encrypted' in request.socket ? '; Secure' : '';
  // A name of a host of its own: no other box is sent the cookie, and its pages cannot read it.
  const cookie = `${name}=${token}; Path=/; HttpOnly; SameSite=Lax${secure}`;
  // Two slashes at its beginning would lead to another host.
  return { kind: 'redirect', location: asked.url.replace(/^\/+/, '/'), cookie };
}

function headerValues(headers: IncomingHttpHeaders, name: string): string[] {
  const value = headers[name];
  return value === undefined ? [] : [value].flat();
}

/** Path, query and headers as the box gets them: without the token. Headers are pairs in a row, as in `rawHeaders`. */
export function withoutToken(
  { url, headers }: { readonly url: string; readonly headers: readonly string[] },
  access: PortAccess,
): { readonly url: string; readonly headers: string[] } {
  const name = access === 'public' ? undefined : access.name;
  const left: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const [key = '', value = ''] = [headers[at], headers[at + 1]];
    if (key.toLowerCase() === name) continue;
    const kept = key.toLowerCase() === 'cookie' ? withoutOwnCookies(value, name) : value;
    if (kept !== '' || value === '') left.push(key, kept);
  }
  return { url: name === undefined ? url : withoutParameter(url, name).url, headers: left };
}
