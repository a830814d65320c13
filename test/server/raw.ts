import { once } from 'node:events';
import { connect } from 'node:net';

/** What came back for bytes sent over a connection of their own, until the other side closed it. */
export async function exchange(url: string, text: string): Promise<string> {
  const { port, hostname } = new URL(url);
  const socket = connect(Number(port), hostname.replace(/^\[|\]$/g, ''));
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString('latin1');
  });
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  socket.write(text);
  await closed;
  return answer;
}

/** A request as it goes over the line; `connection: close` ends it. Header names may come twice. */
export function requestText(
  target: string,
  headers: readonly (readonly [string, string])[],
  { method = 'GET', body = '' }: { readonly method?: string; readonly body?: string } = {},
): string {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const length = body === '' ? '' : `content-length: ${Buffer.byteLength(body)}\r\n`;
  return `${method} ${target} HTTP/1.1\r\n${lines}${length}\r\n${body}`;
}

/** Headers that ask for a WebSocket (RFC 6455, section 1.2). */
export const upgradeHeaders = [
  ['connection', 'Upgrade'],
  ['upgrade', 'websocket'],
  ['sec-websocket-version', '13'],
  ['sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='],
] as const;

/** The status of an answer. */
export function statusOf(answer: string): number {
  return Number(answer.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length));
}
