import { WebSocket } from 'ws';
import type { CallOptions, PortConnection } from '../api/index.js';
import { takeChunk } from '../base/byte-source.js';
import { errorFromJson } from '../wire/error.js';
import { asObject } from '../wire/json.js';
import { ByteQueue } from './byte-queue.js';
import { lostConnection } from './exec-socket.js';
import type { Transport } from './transport.js';

/** Bytes taken from the network ahead of the reader; beyond it the program in the box waits. */
const highWaterBytes = 256 * 1024;

function sendBytes(socket: WebSocket, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.readyState !== WebSocket.OPEN) return reject(lostConnection());
    socket.send(chunk, { binary: true }, (error) => (error ? reject(lostConnection()) : resolve()));
  });
}

/** Connects to a TCP port of a box through its server. */
export async function connectPort(
  transport: Transport,
  boxPath: string,
  port: number,
  options: CallOptions & { readonly wake?: boolean },
): Promise<PortConnection> {
  return await transport.reaching(() => connect(transport, boxPath, port, options), options.signal);
}

async function connect(
  transport: Transport,
  boxPath: string,
  port: number,
  options: CallOptions & { readonly wake?: boolean },
): Promise<PortConnection> {
  const { socket, open } = transport.socket(
    `${boxPath}/ports/${port}`,
    { wake: options.wake },
    options.signal,
  );
  let queued = 0;
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
    output.end(
      message['type'] === 'error' ? errorFromJson(asObject(message['error'] ?? message), 500) : undefined,
    );
  });
  socket.once('close', () => output.end(lostConnection()));
  await open;
  return {
    input: {
      write: async (chunk) => sendBytes(socket, takeChunk(chunk, 'the chunk')),
      end: async () => {
        if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: 'eof' }));
      },
    },
    output,
    close: async () => {
      output.end();
      socket.terminate();
    },
  };
}
