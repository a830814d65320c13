/** The zstd command as a stream, because Node 20 has no zstd of its own and the command uses all cores. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { CryoboxError, errnoOf } from '../errors.js';

/** Largest window an archive may ask for: level 19, the highest we write, uses 8 MiB. */
const MAX_WINDOW = '--memory=32MB';
const MAX_STDERR_BYTES = 2000;
/** Raw blocks of a zstd frame hold at most this much (RFC 8878, section 3.1.1.2.4). */
const MAX_BLOCK_BYTES = 128 * 1024;
const ZSTD_MAGIC = 0xfd2fb528;

/** Whether bytes begin a zstd frame. */
export function isZstd(bytes: Buffer): boolean {
  return bytes.length >= 4 && bytes.readUInt32LE(0) === ZSTD_MAGIC;
}

/** A zstd process. */
export interface ZstdProcess {
  /** Gives it bytes; resolves when they may be changed again. Rejects as `ended` when the process has stopped reading. */
  write(bytes: Uint8Array): Promise<void>;
  /** Says that nothing more comes; resolves as `ended`. */
  end(): Promise<void>;
  /** Resolves when the process has ended well; rejects with `storage_error`, `disk_full`, or `config_error` when it is missing. */
  readonly ended: Promise<void>;
  /** Ends it at once; `ended` still settles. */
  kill(): void;
}

/** Starts to compress into a file from its current position on, with all cores. */
export function startCompress(level: number, outputFd: number): ZstdProcess {
  // No checksum of its own: the archive's seal and the members' hashes cover every byte.
  const args = ['-q', '-c', `-${level}`, '-T0', '--no-check'];
  return supervise(spawn('zstd', args, { stdio: ['pipe', outputFd, 'pipe'] }));
}

/** Starts to decompress into a stream: what is written to it, or a file from its current position on. */
export function startDecompress(inputFd?: number): ZstdProcess & { readonly stdout: Readable } {
  const child = spawn('zstd', ['-q', '-d', '-c', MAX_WINDOW], { stdio: [inputFd ?? 'pipe', 'pipe', 'pipe'] });
  if (!child.stdout) throw new CryoboxError('internal', 'the zstd process has no output');
  return { ...supervise(child), stdout: child.stdout };
}

/** A zstd frame that holds bytes as they are; its length depends only on theirs. */
export function encodeRawFrame(bytes: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUInt32LE(ZSTD_MAGIC, 0);
  // A single segment, with its content size in four bytes.
  header.writeUInt8(0xa0, 4);
  header.writeUInt32LE(bytes.length, 5);
  const parts: Buffer[] = [header];
  for (let at = 0; at < bytes.length; at += MAX_BLOCK_BYTES) {
    const part = bytes.subarray(at, at + MAX_BLOCK_BYTES);
    const last = at + part.length === bytes.length;
    const blockHeader = Buffer.alloc(3);
    blockHeader.writeUIntLE(part.length * 8 + (last ? 1 : 0), 0, 3);
    parts.push(blockHeader, part);
  }
  return Buffer.concat(parts);
}

function supervise(child: ChildProcess): ZstdProcess {
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(0, MAX_STDERR_BYTES);
  });
  const { stdin } = child;
  // A process that ends early breaks the pipe; its exit code says why.
  stdin?.on('error', () => undefined);
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (error) => reject(missingOr(error)));
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(failureOf(`zstd ended with ${signal ?? code}: ${stderr.trim()}`));
    });
  });
  ended.catch(() => undefined);
  const write = async (bytes: Uint8Array): Promise<void> => {
    const failed = await new Promise<unknown>((resolve) => stdin?.write(bytes, resolve));
    if (!failed) return;
    // The process's own words say more than the broken pipe.
    await ended;
    throw new CryoboxError('storage_error', 'zstd stopped reading', { cause: failed });
  };
  const end = async (): Promise<void> => {
    stdin?.end();
    await ended;
  };
  return { write, end, ended, kill: () => void child.kill('SIGKILL') };
}

/** The command says in words what the system told it. */
function failureOf(message: string): CryoboxError {
  const full = /no space left on device|disk quota exceeded/i.test(message);
  return new CryoboxError(full ? 'disk_full' : 'storage_error', message);
}

function missingOr(error: Error): CryoboxError {
  if (errnoOf(error) !== 'ENOENT') {
    return new CryoboxError('storage_error', `zstd cannot be started: ${error.message}`, { cause: error });
  }
  return new CryoboxError('config_error', 'archives need the zstd command, and it is not installed', {
    cause: error,
    hint: 'Install the package zstd, or export with compress: false.',
  });
}
