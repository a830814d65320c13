// What boxes connect to in the tests of the network: run in a network namespace of its own. A name server, web servers with
// and without TLS, and a server that speaks first. Every request that arrives is a line on the standard output.
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { createServer } from 'node:net';

const [first, second, certificate, key] = process.argv.slice(2);
const names = {
  'a.test': first,
  'b.test': first,
  'x.sub.test': first,
  'other.test': second,
  'inside.test': '127.0.0.1',
};
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const answer = (kind) => (request, response) => {
  tell({ kind, host: request.headers.host, path: request.url });
  response.end(`${kind} ${request.headers.host}`);
};

createHttp(answer('http')).listen(80);
createHttp(answer('http')).listen(8080);
createHttps({ cert: readFileSync(certificate), key: readFileSync(key) }, answer('https')).listen(443);
createServer((socket) => {
  tell({ kind: 'raw' });
  socket.on('error', () => undefined);
  socket.write('hello\n');
  socket.pipe(socket);
}).listen(2222);
createServer((socket) => {
  socket.on('error', () => undefined);
  socket.on('data', (data) => socket.write(String(data.length)));
}).listen(2223);
const echo = createSocket('udp4', (message, from) => {
  tell({ kind: 'udp' });
  echo.send(message, from.port, from.address);
});
echo.bind(9999);

const dns = createSocket('udp4', (message, from) => {
  const labels = [];
  let at = 12;
  for (let length = message[at]; length > 0; length = message[at]) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const name = labels.join('.').toLowerCase();
  const question = message.subarray(12, at + 5);
  const address = message.readUInt16BE(at + 1) === 1 ? names[name] : undefined;
  tell({ kind: 'dns', name });
  const head = Buffer.from([
    message[0],
    message[1],
    0x81,
    name in names ? 0x80 : 0x83,
    0,
    1,
    0,
    address ? 1 : 0,
    0,
    0,
    0,
    0,
  ]);
  const record = address
    ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split('.').map(Number)])
    : Buffer.alloc(0);
  dns.send(Buffer.concat([head, question, record]), from.port, from.address);
});
dns.bind(53, () => tell({ kind: 'ready' }));
