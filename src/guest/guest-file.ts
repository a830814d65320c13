import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { runProcess } from '../base/process/index.js';
import { CryoboxError, messageOf, wrapHostError } from '../errors.js';

/** Modules and the agent are a few MiB, unpacked too; what is larger is not what was meant. */
export const maxGuestFileBytes = 64 * 1024 * 1024;

/** Unpacking a module takes milliseconds; a busy host may need far longer. */
const toolTimeoutMs = 60_000;

/** How a packed file begins, and what unpacks it. */
interface Packing {
  readonly magic: Buffer;
  readonly unpack: (packed: Buffer, path: string) => Promise<Buffer>;
}

const gunzip = promisify(zlib.gunzip);
/** Node has zstd since 22.15. */
const unzstd = 'zstdDecompress' in zlib ? promisify(zlib.zstdDecompress as typeof zlib.gunzip) : undefined;
const limit = { maxOutputLength: maxGuestFileBytes };

const packings: readonly Packing[] = [
  { magic: Buffer.from('1f8b', 'hex'), unpack: (packed) => gunzip(packed, limit) },
  {
    magic: Buffer.from('28b52ffd', 'hex'),
    unpack: (packed, path) => (unzstd ? unzstd(packed, limit) : unpackWith('zstd', path)),
  },
  { magic: Buffer.from('fd377a585a00', 'hex'), unpack: (_, path) => unpackWith('xz', path) },
];

/**
 * Reads a file that a machine boots with, which may be packed with gzip, zstd or xz, as distributions pack kernel
 * modules. What it is says its content, not its name.
 * @throws CryoboxError `config_error` when it is missing, too large or broken, or the tool that unpacks it is missing.
 */
export async function readGuestFile(path: string): Promise<Buffer> {
  const content = await readBounded(path);
  const packing = packings.find(({ magic }) => content.subarray(0, magic.length).equals(magic));
  if (!packing) return content;
  try {
    return await packing.unpack(content, path);
  } catch (error) {
    if (error instanceof CryoboxError) throw error;
    throw new CryoboxError('config_error', `${path} cannot be unpacked: ${messageOf(error)}`, {
      cause: error,
      hint: 'Fetch the kernel again: remove its directory, and run set-up.',
    });
  }
}

async function readBounded(path: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > maxGuestFileBytes) {
      throw new CryoboxError(
        'config_error',
        `${path} has ${size} bytes, expected at most ${maxGuestFileBytes}`,
      );
    }
    return await readFile(path);
  } catch (error) {
    throw wrapHostError(error, `reading ${path}`, 'config_error');
  }
}

/** Node has no xz, and zstd only in newer releases: the distribution's tool does it. */
async function unpackWith(tool: string, path: string): Promise<Buffer> {
  const { code, stdout, stderr } = await runProcess(tool, {
    args: ['--decompress', '--stdout', '--', path],
    timeoutMs: toolTimeoutMs,
    maxOutputBytes: maxGuestFileBytes,
  });
  if (code !== 0) throw new Error(stderr.trim() || `${tool} ended with ${code ?? 'a signal'}`);
  return stdout;
}
