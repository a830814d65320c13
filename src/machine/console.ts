import { writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { connectUnix } from '../base/socket.js';

/** What is kept of a console: enough for a kernel's last words, and a guest cannot fill the disk with it. */
const consoleBytes = 64 * 1024;
/** Enough for the kernel's last line. */
const tailLength = 256;

/** The last output of a machine's serial console, kept in memory. */
export class ConsoleLog {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #socket: Socket | undefined;
  #tail = '';
  #onTail: ((tail: string) => void) | undefined;

  /** Reads the console until the machine ends. */
  async follow(socketPath: string): Promise<void> {
    const socket = await connectUnix(socketPath);
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.#add(chunk));
  }

  /** The last 64 KiB as text. */
  text(): string {
    return Buffer.concat(this.#chunks).subarray(-consoleBytes).toString('utf8');
  }

  /** Keeps the text in a file, for a box whose machine is gone. */
  async save(path: string): Promise<void> {
    await writeFile(path, this.text(), { mode: 0o600 });
  }

  /** Calls back with the last 256 characters whenever something was written. */
  onTail(listener: (tail: string) => void): void {
    this.#onTail = listener;
  }

  close(): void {
    this.#socket?.destroy();
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    this.#tail = (this.#tail + chunk.toString('latin1')).slice(-tailLength);
    this.#onTail?.(this.#tail);
    for (
      let first = this.#chunks[0];
      first && this.#bytes - first.length >= consoleBytes;
      first = this.#chunks[0]
    ) {
      this.#chunks.shift();
      this.#bytes -= first.length;
    }
  }
}
