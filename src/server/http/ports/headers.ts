import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** Headers of one connection, which no proxy passes on (RFC 9110, section 7.6.1). */
const ofOneConnection = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'upgrade',
];
/** What the server says of a request itself: nobody else's word is passed on. */
const ofProxy = ['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'];
/** Methods whose requests have no body unless they say so (RFC 9110, section 9.3). */
const bodiless = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT']);

/** Pairs of `rawHeaders` without those named in lower case. */
function without(raw: readonly string[], names: ReadonlySet<string>): string[] {
  return raw.filter((_, at) => !names.has((raw[at - (at % 2)] ?? '').toLowerCase()));
}

/** Names of the headers that are of one connection, those included that `Connection` names. */
function connectionNames(connection: string | undefined): string[] {
  return [
    ...ofOneConnection,
    ...(connection ?? '').split(',').map((name) => name.trim().toLowerCase()),
  ].filter((name) => name !== 'host' && name !== 'content-length');
}

function addressOf({ remoteAddress = '' }: Socket): string {
  return remoteAddress.replace(/^::ffff:/, '');
}

/**
 * Headers of a request as the box gets them, in the order and the spelling in which they came: pairs in a row. `raw` is
 * what of them may be passed on at all.
 */
export function forwardedHeaders(
  request: IncomingMessage,
  raw: readonly string[],
  host: string | undefined,
): string[] {
  const { headers, method = 'GET', socket } = request;
  // The server has answered `Expect` by then.
  const left = without(raw, new Set([...connectionNames(headers.connection), ...ofProxy, 'expect']));
  const named = left.map((value, at) =>
    at % 2 === 1 && host !== undefined && left[at - 1]?.toLowerCase() === 'host' ? host : value,
  );
  const upgrade = headers.upgrade;
  const hasLength = headers['content-length'] !== undefined;
  return [
    ...named,
    ...(upgrade === undefined ? [] : ['Connection', 'Upgrade', 'Upgrade', upgrade]),
    ...(headers['transfer-encoding'] === undefined ? [] : ['Transfer-Encoding', 'chunked']),
    ...(hasLength || headers['transfer-encoding'] !== undefined || bodiless.has(method)
      ? []
      : ['Content-Length', '0']),
    ...['X-Forwarded-For', addressOf(socket), 'X-Forwarded-Host', headers.host ?? ''],
    ...['X-Forwarded-Proto', 'encrypted' in socket ? 'https' : 'http'],
  ];
}

/** Headers of an answer as the client gets them, as {@link forwardedHeaders}. */
export function answeredHeaders({ rawHeaders, headers }: IncomingMessage): string[] {
  return without(rawHeaders, new Set(connectionNames(headers.connection)));
}

/** The head of the answer to an upgrade that the box has accepted. */
export function switchingHead(answer: IncomingMessage): string {
  const { httpVersion, statusCode, statusMessage, rawHeaders } = answer;
  const lines = [`HTTP/${httpVersion} ${statusCode} ${statusMessage}`];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2)
    lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
