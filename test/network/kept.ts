import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { runProcess } from '../../src/base/process/index.js';

/** Files below a directory that hold a text. */
export async function filesWith(directory: string, text: string): Promise<string[]> {
  const { stdout, code } = await runProcess('grep', {
    args: ['-rlF', '--', text, directory],
    timeoutMs: 120_000,
  });
  if (code !== 0 && code !== 1) throw new Error(`grep ended with ${code}`);
  return stdout.toString().split('\n').filter(Boolean);
}

/** The process that puts secrets in for a home: it runs in a directory of it. */
export async function interceptorPid(home: string): Promise<number> {
  for (const entry of await readdir('/proc')) {
    if ((await readlink(`/proc/${entry}/cwd`).catch(() => '')) !== join(home, 'interceptor')) continue;
    return Number(entry);
  }
  throw new Error('there is no interceptor');
}
