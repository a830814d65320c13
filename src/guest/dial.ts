import type { Readable, Writable } from 'node:stream';
import type { AgentConnection } from './connection.js';

/** Where to connect inside the guest. */
export interface DialOptions {
  readonly port: number;
  /** Address inside the guest; default `localhost`: 127.0.0.1 and, when nobody listens there, ::1. */
  readonly host?: string;
  readonly signal?: AbortSignal;
  /** Default 10,000. */
  readonly timeoutMs?: number;
}

/** The two directions of a connection; each ends on its own. */
export interface DialledConnection {
  /** Bytes from the guest's server. */
  readonly input: Readable;
  /** Bytes to it. */
  readonly output: Writable;
}

const defaultTimeoutMs = 10_000;

/** Opens a TCP connection inside the guest. @throws CryoboxError `network_unavailable`. */
export async function dial(connection: AgentConnection, options: DialOptions): Promise<DialledConnection> {
  const { port, host, signal, timeoutMs = defaultTimeoutMs } = options;
  const input = connection.newReadable();
  const output = connection.newWritable();
  try {
    const streams = { in: output.id, out: input.id };
    await connection.request('net.dial', { port, host, ...streams }, { signal, timeoutMs });
    return { input, output };
  } catch (error) {
    input.destroy();
    output.destroy();
    throw error;
  }
}
