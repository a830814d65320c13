import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** What becomes of an answer: a status instead of it, a body cut or changed, a connection that ends, or none at all. */
export type Lie = { readonly status: number } | 'cut' | 'flip' | 'reset' | 'lost-answer' | 'silence';

/** What is known of a request when it is decided. */
export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
}

/** A proxy in front of a real server. It tells the truth unless told otherwise. */
export interface LyingProxy {
  readonly address: string;
  /** Decides for each request; undefined: the truth. */
  lie: (asked: Asked) => Lie | undefined;
  /** Requests that came, in order. */
  readonly asked: Asked[];
  close(): Promise<void>;
}

/** Starts a proxy before a server that listens on a socket. */
export async function lyingProxy(socketPath: string): Promise<LyingProxy> {
  const asked: Asked[] = [];
  const server = createServer((from, to) => {
    const { method = '', url = '', headers } = from;
    asked.push({ method, url, headers });
    const lie = proxy.lie({ method, url, headers });
    answer(socketPath, from, to, lie).catch(() => to.destroy());
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const proxy: LyingProxy = {
    address: `http://127.0.0.1:${port}`,
    lie: () => undefined,
    asked,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

async function answer(
  socketPath: string,
  from: IncomingMessage,
  to: ServerResponse,
  lie: Lie | undefined,
): Promise<void> {
  const body = await buffer(from);
  if (lie === 'reset') {
    to.destroy();
    return;
  }
  if (lie === 'silence') return;
  if (typeof lie === 'object') {
    to.writeHead(lie.status, { 'content-type': 'application/xml' });
    to.end('<Error><Code>Told</Code><Message>told to</Message></Error>');
    return;
  }
  const { method, url, headers } = from;
  const real = await new Promise<IncomingMessage>((resolve, reject) => {
    const asking = request({ socketPath, method, path: url, headers, agent: false }, resolve);
    asking.on('error', reject);
    asking.end(body);
  });
  const bytes = await buffer(real);
  if (lie === 'lost-answer') {
    to.destroy();
    return;
  }
  to.writeHead(real.statusCode ?? 500, real.headers);
  if (lie === 'flip' && bytes.length > 0) {
    const at = Math.floor(bytes.length / 2);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
  }
  if (lie !== 'cut') {
    to.end(bytes);
    return;
  }
  // Some of it, with the length of all.
  to.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => to.destroy());
}
