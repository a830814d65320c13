/** The zstd command as a stream, because Node 20 has no zstd of its own and the command uses all cores. */
import type { Readable } from 'node:stream';
import { type StartedProcess, startProcess } from '../../base/process/index.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';

/** Largest window an archive may ask for: level 19, the highest we write, uses 8 MiB. */
const MAX_WINDOW = '--memory=32MB';
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
  /** Resolves when the process has ended well; rejects with `storage_error` or `disk_full`. */
  readonly ended: Promise<void>;
  /** Ends it at once; `ended` still settles. */
  kill(): void;
}

/**
 * Starts to compress into a file from its current position on, with all cores. Throws `config_error` when the command is
 * missing, `resource_exhausted` when it cannot be started.
 */
export async function startCompress(level: number, outputFd: number): Promise<ZstdProcess> {
  // No checksum of its own: the archive's seal and the members' hashes cover every byte.
  const args = ['-q', '-c', `-${level}`, '-T0', '--no-check'];
  return supervise(await start(args, { stdin: 'pipe', stdout: outputFd }));
}

/**
 * Starts to decompress into a stream: what is written to it, or a file from its current position on. Throws as
 * {@link startCompress}.
 */
export async function startDecompress(
  inputFd?: number,
): Promise<ZstdProcess & { readonly stdout: Readable }> {
  const child = await start(['-q', '-d', '-c', MAX_WINDOW], { stdin: inputFd ?? 'pipe', stdout: 'pipe' });
  return { ...supervise(child, inputFd === undefined), stdout: child.stdout };
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

interface Ends {
  readonly stdin: number | 'pipe';
  readonly stdout: number | 'pipe';
}

async function start(args: readonly string[], ends: Ends): Promise<StartedProcess> {
  try {
    return await startProcess('zstd', { args, ...ends });
  } catch (error) {
    if (!isCryoboxError(error, 'config_error')) throw error;
    throw new CryoboxError('config_error', `archives need the zstd command: ${error.message}`, {
      cause: error,
      hint: `${error.hint.replace(/\.$/, '')}, or export with compress: false.`,
    });
  }
}

function supervise(child: StartedProcess, isFed = true): ZstdProcess {
  const stdin = isFed ? child.stdin : undefined;
  const ended = child.closed.then(({ code, signal, stderr }) => {
    if (code !== 0) throw failureOf(`zstd ended with ${signal ?? code}: ${stderr}`);
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
  return { write, end, ended, kill: () => child.kill() };
}

/** The command says in words what the system told it. */
function failureOf(message: string): CryoboxError {
  const full = /no space left on device|disk quota exceeded/i.test(message);
  return new CryoboxError(full ? 'disk_full' : 'storage_error', message);
}
