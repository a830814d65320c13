// Servers that the cases about networks speak to: run in a network namespace of its own.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { serveNames } from '../../test/network/names.mjs';

const [address] = process.argv.slice(2);
const block = Buffer.alloc(1 << 18, 'x');

const serve = (port, talk) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    talk(socket).catch(() => socket.destroy());
  });
  server.listen({ port, backlog: 1024 });
};

// Takes everything, and says so at the end.
serve(7001, async (socket) => {
  socket.resume();
  await once(socket, 'end');
  socket.end('.');
});
// Gives so many MiB as the first line says.
serve(7002, async (socket) => {
  const [line] = await once(socket, 'data');
  for (let left = Number(line) * 4; left > 0; left -= 1) {
    if (!socket.write(block)) await once(socket, 'drain');
  }
  socket.end();
});
// Echoes.
serve(7003, async (socket) => {
  socket.setNoDelay();
  socket.pipe(socket);
});

serveNames(address, () => process.stdout.write('{"kind":"ready"}\n'));
