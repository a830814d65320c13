import { once } from 'node:events';
import { constants } from 'node:fs';
import { chmod, open, rm, statfs } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { z } from 'zod';
import { connectUnix } from '../base/socket.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { machineFiles } from './arguments.js';
import type { QmpClient, QmpEvent } from './qmp.js';

/** Largest device state accepted; it is about 400 KiB, and grows with the number of devices only. */
const maxDeviceStateBytes = 64 * 1024 * 1024;

/** What a device state takes, and as much again. */
const usualDeviceStateBytes = 1024 * 1024;

/** Loading or saving device state without memory takes tens of milliseconds; a busy host may need far longer. */
const migrationTimeoutMs = 60_000;

/** The limit on a migration's speed is for networks; a unix socket needs none. */
const unlimitedBytesPerSecond = 2 ** 40;

const migrationInfo = z.object({ 'error-desc': z.string().optional() });

const capabilities = (states: Record<string, boolean>): object => ({
  capabilities: Object.entries(states).map(([capability, state]) => ({ capability, state })),
});

/**
 * Saves the device state of a stopped machine whose memory is a shared file: everything but that memory
 * (capability `x-ignore-shared`). Throws `machine_failed`.
 */
export async function saveDeviceState(qmp: QmpClient, directory: string): Promise<Buffer> {
  const path = join(directory, machineFiles.outgoingSocket);
  await using received = await receiveOnce(path, collect);
  await qmp.execute('migrate-set-capabilities', capabilities({ 'x-ignore-shared': true, events: true }));
  const [state] = await Promise.all([
    received.result,
    migration(qmp, () => qmp.execute('migrate', { uri: `unix:${machineFiles.outgoingSocket}` })),
  ]);
  return state;
}

/**
 * Saves the state of a stopped machine's devices, without any memory, as QMP `xen-save-devices-state` writes it; the
 * machine can go on afterwards. Throws `machine_failed`, `disk_full`.
 */
export async function saveDevices(qmp: QmpClient, directory: string): Promise<Buffer> {
  const path = join(directory, machineFiles.deviceState);
  try {
    await qmp
      .execute('xen-save-devices-state', { filename: machineFiles.deviceState, live: false })
      .catch(async (error: unknown) => {
        throw (await hasRoom(directory)) ? error : new CryoboxError('disk_full', messageOf(error));
      });
    // The directory is the machine's: what lies there under that name is not trusted to be a file.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const facts = await file.stat();
      if (!facts.isFile() || facts.size > maxDeviceStateBytes) {
        throw new CryoboxError('machine_failed', `QEMU saved a device state of ${facts.size} bytes`);
      }
      return await file.readFile();
    } finally {
      await file.close();
    }
  } finally {
    await rm(path, { force: true });
  }
}

/** QEMU says of a state that it could not write only that it could not: whether there is room, the file system knows. */
async function hasRoom(directory: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize > usualDeviceStateBytes;
}

/**
 * Has a stopped machine write all of its memory and devices as a migration stream, which `consume` reads; for where
 * its process cannot be read. The machine can go on afterwards. Throws `machine_failed`, and what `consume` throws.
 */
export async function streamState<T>(
  qmp: QmpClient,
  directory: string,
  consume: (stream: AsyncIterable<Buffer>) => Promise<T>,
): Promise<T> {
  const path = join(directory, machineFiles.outgoingSocket);
  await using received = await receiveOnce(path, consume);
  await qmp.execute('migrate-set-capabilities', capabilities({ 'x-ignore-shared': false, events: true }));
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': unlimitedBytesPerSecond });
  const start = (): Promise<unknown> =>
    qmp.execute('migrate', { uri: `unix:${machineFiles.outgoingSocket}` });
  const ended = migration(qmp, start).catch(async (error: unknown) => {
    // QEMU also fails when its reader has: then the reader knows why.
    if (isCryoboxError(error, 'machine_failed') && received.isConnected()) await received.result;
    throw error;
  });
  const [result] = await Promise.all([received.result, ended]);
  return result;
}

/**
 * Makes a waiting machine ready for a page server (postcopy): `serve` lets that connect to the socket at the path it is
 * given. Resolves when the guest runs. Throws `machine_failed`, `timeout`.
 */
export async function loadLazily(
  qmp: QmpClient,
  directory: string,
  serve: (socketPath: string) => void,
): Promise<void> {
  await qmp.execute(
    'migrate-set-capabilities',
    capabilities({ 'x-ignore-shared': false, 'postcopy-ram': true, events: true }),
  );
  await qmp.execute('migrate-incoming', { uri: `unix:${machineFiles.incomingSocket}` });
  // Before the state is there it only asks for a start as soon as it is.
  await qmp.execute('cont');
  const start = { what: 'the start of the guest', timeoutMs: migrationTimeoutMs };
  await qmp.waitFor({ ...start, accept: ({ event }) => event === 'RESUME' }, async () =>
    serve(join(directory, machineFiles.incomingSocket)),
  );
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
  let socket: Socket | undefined;
  try {
    await migration(qmp, async () => {
      await Promise.all([
        qmp.execute(
          'migrate-set-capabilities',
          capabilities({ 'x-ignore-shared': options.ignoreShared, events: true }),
        ),
        qmp.execute('migrate-incoming', { uri: `unix:${machineFiles.incomingSocket}` }),
      ]);
      socket = await connectUnix(join(directory, machineFiles.incomingSocket));
      socket.on('error', () => undefined);
      await options.write(socket);
      socket.end();
    });
  } finally {
    socket?.destroy();
  }
}

/** Starts a migration and waits for its end. Throws `machine_failed` with QEMU's reason, and what `start` throws. */
async function migration(qmp: QmpClient, start: () => Promise<unknown>): Promise<void> {
  const accept = ({ event, data }: QmpEvent): boolean =>
    event === 'MIGRATION' && (data.status === 'completed' || data.status === 'failed');
  const end = { what: 'the end of the migration', accept, timeoutMs: migrationTimeoutMs };
  const event = await qmp.waitFor(end, start);
  if (event.data.status === 'completed') return;
  const info = await qmp.query('query-migrate', migrationInfo).catch(() => undefined);
  throw new CryoboxError(
    'machine_failed',
    `QEMU refused the machine state: ${info?.['error-desc'] ?? 'no reason given'}`,
  );
}

/** A unix socket that takes one connection and gives it to `consume`. */
async function receiveOnce<T>(
  path: string,
  consume: (socket: Socket) => Promise<T>,
): Promise<AsyncDisposable & { readonly result: Promise<T>; isConnected(): boolean }> {
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  // A connection that cannot be taken shows as one that does not come.
  server.on('error', () => undefined);
  try {
    // QEMU runs as another user; the directory keeps everybody else out.
    await chmod(path, 0o666);
  } catch (error) {
    server.close();
    throw error;
  }
  let connected: Socket | undefined;
  const result = once(server, 'connection').then(([socket]: Socket[]) => {
    connected = socket as Socket;
    return consume(connected);
  });
  result.catch(() => undefined);
  return {
    result,
    isConnected: () => connected !== undefined,
    [Symbol.asyncDispose]: async () => {
      connected?.destroy();
      server.close();
      await rm(path, { force: true });
    },
  };
}

async function collect(socket: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of socket) {
    size += chunk.length;
    if (size > maxDeviceStateBytes) {
      throw new CryoboxError('machine_failed', `the device state is over ${maxDeviceStateBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
