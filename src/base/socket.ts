import { open } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';

/** sockaddr_un.sun_path holds 108 bytes with its final NUL (unix(7)). */
const maxSocketPathBytes = 107;

/**
 * Connects to a unix socket. A path too long for sockaddr_un is reached through an opened directory,
 * `/proc/self/fd/N/name`. Rejects with Node's error (`ENOENT`, `ECONNREFUSED`, ...).
 */
export async function connectUnix(path: string): Promise<Socket> {
  if (Buffer.byteLength(path) <= maxSocketPathBytes) return await connected(path);
  const directory = await open(dirname(path), 'r');
  try {
    return await connected(`/proc/self/fd/${directory.fd}/${basename(path)}`);
  } finally {
    await directory.close();
  }
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
