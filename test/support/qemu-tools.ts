import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TOOL_LIMIT_MS = 30_000;

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

/** What qemu-img check reports, whatever it finds. */
export async function qemuCheck(path: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('qemu-img', ['check', '--output=json', path], {
    timeout: TOOL_LIMIT_MS,
  }).catch((error: unknown) => error as { stdout: string });
  return JSON.parse(stdout) as Record<string, unknown>;
}
