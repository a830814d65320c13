// Servers that secrets are for, in the tests: run in a network namespace of its own. A name server that leads every name to one
// address, and web servers with TLS and without that say what arrived.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { WebSocketServer } from 'ws';
import { serveNames } from './names.mjs';

const [address, , certificate, key] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

/** A block of what `/bytes` answers with. */
const block = Buffer.alloc(1 << 20, 'x');

/** Answers with so many MiB, as fast as they are taken. */
async function sendBytes(response, mebibytes) {
  for (let sent = 0; sent < mebibytes; sent += 1) {
    if (!response.write(block)) await once(response, 'drain');
  }
  response.end();
}

function answer(request, response) {
  const served = (request.socket.served ?? 0) + 1;
  request.socket.served = served;
  // As a server that ends a connection when it likes.
  if (request.headers['x-drop'] && served > 1) return request.socket.destroy();
  const hash = createHash('sha256');
  let bytes = 0;
  request.on('error', () => tell({ broken: request.url, bytes }));
  request.on('data', (chunk) => {
    if (bytes === 0) tell({ begun: request.url, headers: request.headers });
    bytes += chunk.length;
    hash.update(chunk);
  });
  request.on('end', () => {
    const { method, url, headers } = request;
    const tls = request.socket.encrypted === true;
    tell({ method, url, headers, tls });
    const count = /^\/bytes\/(\d+)/.exec(url)?.[1];
    if (count) {
      sendBytes(response, Number(count)).catch(() => response.destroy());
      return;
    }
    const body = JSON.stringify({ method, url, headers, bytes, sha256: hash.digest('hex'), served, tls });
    response.setHeader('alt-svc', 'h3=":443"');
    response.end(request.headers['x-quiet'] ? 'ok' : body);
  });
}

const sockets = new WebSocketServer({ noServer: true });
function upgrade(request, socket, head) {
  tell({ method: 'UPGRADE', url: request.url, headers: request.headers });
  socket.on('error', () => undefined);
  sockets.handleUpgrade(request, socket, head, (each) => {
    each.on('message', (data, isBinary) => each.send(data, { binary: isBinary }));
  });
}

const server = createHttps({ cert: readFileSync(certificate), key: readFileSync(key) }, answer);
const plain = createHttp(answer);
for (const each of [server, plain]) each.on('upgrade', upgrade);
let connections = 0;
server.on('connection', () => {
  connections += 1;
  tell({ connections });
});
server.listen(443);
plain.listen(80);

serveNames(address, () => tell({ kind: 'ready' }));
