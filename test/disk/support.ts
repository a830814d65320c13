import { execFile } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach } from 'vitest';

const run = promisify(execFile);
const TOOL_LIMIT_MS = 30_000;

/** A directory that is removed after the test. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-disk-'));
  made.push(directory);
  return directory;
}
const made: string[] = [];
afterEach(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true, force: true });
});

/** Runs qemu-img, the oracle; rejects with its output when it fails. */
export async function qemuImg(...args: string[]): Promise<string> {
  const { stdout } = await run('qemu-img', args, { timeout: TOOL_LIMIT_MS });
  return stdout;
}

/** Runs commands of qemu-io on an image, such as `write -P 7 0 64k`. */
export async function qemuIo(path: string, format: string, ...commands: string[]): Promise<void> {
  const args = ['-f', format, ...commands.flatMap((command) => ['-c', command]), path];
  const { stdout, stderr } = await run('qemu-io', args, { timeout: TOOL_LIMIT_MS });
  if (/failed|error|invalid/i.test(stdout + stderr)) throw new Error(`qemu-io: ${stdout}${stderr}`);
}

/** What qemu-img says of an image. */
export async function qemuInfo(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await qemuImg('info', '--output=json', path)) as Record<string, unknown>;
}

/** Overwrites a big-endian number in a file. */
export async function patch(
  path: string,
  at: number,
  kind: 'u32' | 'u64',
  value: number | bigint,
): Promise<void> {
  const bytes = Buffer.alloc(kind === 'u32' ? 4 : 8);
  if (kind === 'u32') bytes.writeUInt32BE(Number(value));
  else bytes.writeBigUInt64BE(BigInt(value));
  const handle = await open(path, 'r+');
  try {
    await handle.write(bytes, 0, bytes.length, at);
  } finally {
    await handle.close();
  }
}
