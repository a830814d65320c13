import type { HandedOver, InterceptedSecret } from './messages.js';

/** What of a request may hold placeholders. */
export interface RequestParts {
  /** Path and query. */
  readonly target: string;
  /** Names and values in turn, as they came. */
  readonly headers: readonly string[];
}

/** Headers whose credentials may be encoded (RFC 7617). */
const encoded = ['authorization', 'proxy-authorization'];

/** The server that a request is to. */
export type Server = Pick<HandedOver, 'name' | 'port' | 'tls'>;

/** Thrown for a placeholder of a secret that may not go to this server, or whose value was lost. */
export class NotForThisServer extends Error {
  constructor({ name, value, servers }: InterceptedSecret, to: Server) {
    const isPlainOnly = !to.tls && servers.some((each) => each.tls && isNamed(each.name, to.name));
    const why = isPlainOnly
      ? `goes to ${to.name} by HTTPS only: name http://${to.name}:${to.port} among its hosts to send it in the clear`
      : 'is not for this server';
    super(
      value === null ? `the value of the secret ${name} was lost: set it again` : `the secret ${name} ${why}`,
    );
  }
}

/** Whether a secret may go to this server. */
export function isFor(servers: InterceptedSecret['servers'], { name, port, tls }: Server): boolean {
  return servers.some(
    (each) => each.tls === tls && each.firstPort <= port && port <= each.lastPort && isNamed(each.name, name),
  );
}

function isNamed(pattern: string, name: string): boolean {
  return pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) : name === pattern;
}

/**
 * The request with values in place of placeholders: in its target, in its headers, and in credentials of `Basic`. Throws
 * {@link NotForThisServer}, and leaves everything as it is then.
 */
export function substitute(
  { target, headers }: RequestParts,
  secrets: readonly InterceptedSecret[],
  to: Server,
): RequestParts {
  const allowedValue = (secret: InterceptedSecret): string => {
    if (secret.value === null || !isFor(secret.servers, to)) throw new NotForThisServer(secret, to);
    return secret.value;
  };
  const inText = replacer(secrets, (secret) => [secret.placeholder], allowedValue);
  const inTarget = replacer(
    secrets,
    ({ placeholder }) => [placeholder, encodeURIComponent(placeholder)],
    (secret) => encodeURIComponent(allowedValue(secret)),
  );
  return {
    target: inTarget(target),
    headers: headers.map((text, index) => {
      const isName = index % 2 === 0;
      if (isName) return text;
      const replaced = inText(text);
      const isEncoded = encoded.includes((headers[index - 1] ?? '').toLowerCase());
      return isEncoded ? inBasic(replaced, inText) : replaced;
    }),
  };
}

/** Replaces in one pass, so that what stands in a value is not looked at; the longest placeholder first. */
function replacer(
  secrets: readonly InterceptedSecret[],
  formsOf: (secret: InterceptedSecret) => readonly string[],
  allowedValue: (secret: InterceptedSecret) => string,
): (text: string) => string {
  const byForm = new Map<string, InterceptedSecret>();
  for (const secret of secrets) for (const form of formsOf(secret)) byForm.set(form.toLowerCase(), secret);
  const forms = [...byForm.keys()].sort((a, b) => b.length - a.length).map(literally);
  if (forms.length === 0) return (text) => text;
  // Escapes of URLs are written in either case (RFC 3986, section 6.2.2.1).
  const pattern = new RegExp(forms.join('|'), 'gi');
  const replace = (form: string): string => {
    const secret = byForm.get(form.toLowerCase());
    return secret ? allowedValue(secret) : form;
  };
  return (text) => text.replace(pattern, replace);
}

/** A pattern that finds just this. */
function literally(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}

function inBasic(value: string, replace: (text: string) => string): string {
  const [, scheme = '', credentials = ''] = /^(basic\s+)([a-z0-9+/=_-]+)\s*$/i.exec(value) ?? [];
  if (credentials === '') return value;
  const plain = Buffer.from(credentials, 'base64').toString('latin1');
  const replaced = replace(plain);
  return replaced === plain ? value : scheme + Buffer.from(replaced, 'latin1').toString('base64');
}
