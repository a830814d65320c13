import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PortStream } from './port-stream.js';

/** Ends a connection in a way that nobody takes for an end in order, where the kernel can do that. */
export function reset(socket: Duplex): void {
  try {
    if (socket instanceof Socket) socket.resetAndDestroy();
  } catch {
    // TLS and unix sockets know no reset: there, what is cut off shows by what is missing.
  }
  socket.destroy();
}

/** Two pipelines watch both ends, each in several ways: that is no leak of listeners. */
const listenersOfBoth = 32;

/**
 * Carries bytes between a socket and a port of a box until both directions have ended; `head` is what was read from the
 * socket before. Neither is read faster than the other takes. Once the program in the box takes no more, what comes for it
 * is dropped: its answer is still wanted. When the box goes, the socket is reset. Throws what ended it
 * out of turn; both are closed in any case.
 */
export async function carry(
  socket: Duplex,
  port: Duplex,
  head: Uint8Array = new Uint8Array(),
): Promise<void> {
  if (port instanceof PortStream) port.dropUntaken();
  // Before the pipelines, which end the socket politely.
  port.once('error', () => reset(socket));
  socket.setMaxListeners(listenersOfBoth);
  port.setMaxListeners(listenersOfBoth);
  try {
    if (head.length > 0) port.write(head);
    await Promise.all([pipeline(socket, port), pipeline(port, socket)]);
  } finally {
    socket.destroy();
    port.destroy();
  }
}
