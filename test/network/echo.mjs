// Servers that secrets are for, in the tests: run in a network namespace of its own. A name server that leads every name to one
// address, and web servers with TLS that say what arrived.
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer as createHttps } from 'node:https';

const [address, , certificate, key] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const server = createHttps(
  { cert: readFileSync(certificate), key: readFileSync(key) },
  (request, response) => {
    const hash = createHash('sha256');
    let bytes = 0;
    request.on('data', (chunk) => {
      bytes += chunk.length;
      hash.update(chunk);
    });
    request.on('end', () => {
      const { method, url, headers } = request;
      tell({ method, url, headers });
      const body = JSON.stringify({ method, url, headers, bytes, sha256: hash.digest('hex') });
      response.setHeader('alt-svc', 'h3=":443"');
      response.end(request.headers['x-quiet'] ? 'ok' : body);
    });
  },
);
server.on('upgrade', (request, socket) => {
  tell({ method: 'UPGRADE', url: request.url, headers: request.headers });
  socket.on('error', () => undefined);
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
  socket.pipe(socket);
});
let connections = 0;
server.on('connection', () => {
  connections += 1;
  tell({ connections });
});
server.listen(443);

const dns = createSocket('udp4', (message, from) => {
  let at = 12;
  while (message[at] > 0) at += 1 + message[at];
  const question = message.subarray(12, at + 5);
  const isAddress = message.readUInt16BE(at + 1) === 1;
  const head = Buffer.from([message[0], message[1], 0x81, 0x80, 0, 1, 0, isAddress ? 1 : 0, 0, 0, 0, 0]);
  const octets = address.split('.').map(Number);
  const record = isAddress
    ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...octets])
    : Buffer.alloc(0);
  dns.send(Buffer.concat([head, question, record]), from.port, from.address);
});
dns.bind(53, () => tell({ kind: 'ready' }));
