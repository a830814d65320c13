import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Box } from '../../src/api/index.js';

/** A server in a box that answers every connection with a word. Returns when it listens. */
export async function serveIn(box: Box, port: number, word: string): Promise<void> {
  const execution = await box.startExec(['nc', '-ll', '-p', String(port), '-e', 'echo', word]);
  await execution.detach();
  await box.waitForPort(port);
}

/** What a port of the host answers until it ends the connection; fails with the code of a connection that is reset. */
export async function ask(port: number, host = '127.0.0.1'): Promise<string> {
  const socket = connect({ host, port, allowHalfOpen: true });
  socket.end();
  return await text(socket);
}

/** Whether nobody listens on a port of the host's loopback. */
export async function refusesConnections(port: number): Promise<boolean> {
  return await ask(port).then(
    () => false,
    (error: { code?: string }) => error.code === 'ECONNREFUSED',
  );
}
