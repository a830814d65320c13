import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import type { DialOptions, PortConnection } from '../api/index.js';
import { PortStream } from '../base/port-stream.js';
import { errorFromJson } from '../wire/error.js';
import { asObject } from '../wire/json.js';
import { ByteQueue } from './byte-queue.js';
import { lostConnection } from './exec-socket.js';
import type { Transport } from './transport.js';

/** Bytes taken from the network ahead of the reader; beyond it the program in the box waits. */
const highWaterBytes = 256 * 1024;

function sendBytes(socket: WebSocket, chunk: Uint8Array, why: () => Error): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.readyState !== WebSocket.OPEN) return reject(why());
    socket.send(chunk, { binary: true }, (error) => (error ? reject(why()) : resolve()));
  });
}

/** Connects to a TCP port of a box through its server. */
export async function connectPort(
  transport: Transport,
  boxPath: string,
  port: number,
  options: DialOptions,
): Promise<PortConnection> {
  return await transport.reaching(() => connect(transport, boxPath, port, options), options.signal);
}

async function connect(
  transport: Transport,
  boxPath: string,
  port: number,
  options: DialOptions,
): Promise<PortConnection> {
  const { socket, open } = transport.socket(
    `${boxPath}/ports/${port}`,
    { wake: options.wake },
    options.signal,
  );
  let held: Socket | undefined;
  socket.once('upgrade', (response) => {
    held = response.socket;
  });
  let queued = 0;
  let failure: Error | undefined;
  const output = new ByteQueue((bytes) => {
    queued -= bytes;
    if (queued <= highWaterBytes && socket.isPaused) socket.resume();
  });
  socket.on('message', (data: Buffer, binary: boolean) => {
    if (binary) {
      queued += data.length;
      if (queued > highWaterBytes) socket.pause();
      output.push(data);
      return;
    }
    const message = asObject(JSON.parse(data.toString('utf8')), 'message');
    if (message['type'] === 'error') failure = errorFromJson(asObject(message['error'] ?? message), 500);
    output.end(failure);
  });
  socket.once('close', () => output.end(lostConnection()));
  await open;
  const halves = {
    input: {
      write: (chunk: Uint8Array) => sendBytes(socket, chunk, () => failure ?? lostConnection()),
      end: async () => {
        if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: 'eof' }));
      },
    },
    output,
    close: async (inOrder: boolean) => {
      output.end();
      // The server ends it, once the box has taken what was sent.
      if (!inOrder) socket.terminate();
    },
    hold: (holds: boolean) => {
      if (holds) held?.ref();
      else held?.unref();
    },
  };
  return new PortStream(halves, options);
}
