import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { temporaryDirectory } from './temporary.js';

/** Two ends of a unix socket connection, destroyed when the test has ended. */
export async function socketPair(): Promise<[Socket, Socket]> {
  const path = join(await temporaryDirectory(), 'pair.sock');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const one = connect(path);
  const [other] = (await once(server, 'connection')) as [Socket];
  server.close();
  for (const socket of [one, other]) socket.on('error', () => undefined);
  onTestFinished(() => {
    one.destroy();
    other.destroy();
  });
  return [one, other];
}
