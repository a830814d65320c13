import { open } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';

/** sockaddr_un.sun_path holds 108 bytes with its final NUL (unix(7)). */
const maxSocketPathBytes = 107;

/**
 * Connects to a unix socket. A path too long for sockaddr_un is reached through an opened directory,
 * `/proc/self/fd/N/name`. Rejects with Node's error (`ENOENT`, `ECONNREFUSED`, ...), or the signal's reason.
 */
export async function connectUnix(path: string, signal?: AbortSignal): Promise<Socket> {
  if (Buffer.byteLength(path) <= maxSocketPathBytes) return await connected(path, signal);
  const directory = await open(dirname(path), 'r');
  try {
    return await connected(`/proc/self/fd/${directory.fd}/${basename(path)}`, signal);
  } finally {
    await directory.close();
  }
}

function connected(path: string, signal: AbortSignal | undefined): Promise<Socket> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    const stop = (): void => {
      socket.destroy();
      fail(signal?.reason as Error);
    };
    const fail = (error: Error): void => {
      signal?.removeEventListener('abort', stop);
      reject(error);
    };
    signal?.addEventListener('abort', stop, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      signal?.removeEventListener('abort', stop);
      socket.off('error', fail);
      resolve(socket);
    });
  });
}
