import { once } from 'node:events';
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { connectUnix } from '../base/socket.js';
import { CryoboxError } from '../errors.js';
import { machineFiles } from './arguments.js';
import type { QmpClient, QmpEvent } from './qmp.js';

/** Largest device state accepted; it is about 400 KiB, and grows with the number of devices only. */
const maxDeviceStateBytes = 64 * 1024 * 1024;

/** Loading or saving device state without memory takes tens of milliseconds; a busy host may need far longer. */
const migrationTimeoutMs = 60_000;

const capabilities = (states: Record<string, boolean>): object => ({
  capabilities: Object.entries(states).map(([capability, state]) => ({ capability, state })),
});

/**
 * Saves the device state of a stopped machine whose memory is a shared file: everything but that memory
 * (capability `x-ignore-shared`). Throws `machine_failed`.
 */
export async function saveDeviceState(qmp: QmpClient, directory: string): Promise<Buffer> {
  const path = join(directory, machineFiles.outgoingSocket);
  await using received = await receiveOnce(path);
  await qmp.execute('migrate-set-capabilities', capabilities({ 'x-ignore-shared': true, events: true }));
  const done = migrationEnd(qmp);
  await qmp.execute('migrate', { uri: `unix:${machineFiles.outgoingSocket}` });
  const [state] = await Promise.all([received.bytes, done]);
  return state;
}

/** How a waiting machine is given its state. */
export interface LoadOptions {
  /** The stream leaves out memory that is mapped from a file. */
  readonly ignoreShared: boolean;
  /** Writes the migration stream; the socket is ended for it. */
  readonly write: (socket: Socket) => Promise<void>;
}

/**
 * Loads a machine state into a machine that waits for it (`-incoming defer`); afterwards the machine stands still.
 * Throws `machine_failed` with QEMU's words.
 */
export async function loadState(qmp: QmpClient, directory: string, options: LoadOptions): Promise<void> {
  const done = migrationEnd(qmp);
  done.catch(() => undefined);
  await Promise.all([
    qmp.execute(
      'migrate-set-capabilities',
      capabilities({ 'x-ignore-shared': options.ignoreShared, events: true }),
    ),
    qmp.execute('migrate-incoming', { uri: `unix:${machineFiles.incomingSocket}` }),
  ]);
  const socket = await connectUnix(join(directory, machineFiles.incomingSocket));
  socket.on('error', () => undefined);
  try {
    await options.write(socket);
    socket.end();
    await done;
  } finally {
    socket.destroy();
  }
}

async function migrationEnd(qmp: QmpClient): Promise<void> {
  const end = (event: QmpEvent): boolean =>
    event.event === 'MIGRATION' && (event.data.status === 'completed' || event.data.status === 'failed');
  const event = await qmp.waitFor('the end of the migration', end, migrationTimeoutMs);
  if (event.data.status === 'completed') return;
  const info = await qmp.execute<{ 'error-desc'?: string }>('query-migrate').catch(() => undefined);
  throw new CryoboxError(
    'machine_failed',
    `QEMU refused the machine state: ${info?.['error-desc'] ?? 'no reason given'}`,
  );
}

/** A unix socket that takes one connection and gives all its bytes. */
async function receiveOnce(path: string): Promise<AsyncDisposable & { bytes: Promise<Buffer> }> {
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  // QEMU runs as another user; the directory keeps everybody else out.
  await chmod(path, 0o666);
  const bytes = once(server, 'connection').then(([socket]: Socket[]) => collect(socket as Socket));
  bytes.catch(() => undefined);
  return {
    bytes,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await rm(path, { force: true });
    },
  };
}

async function collect(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxDeviceStateBytes) {
      throw new CryoboxError('machine_failed', `the device state is over ${maxDeviceStateBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
