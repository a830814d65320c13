import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Path of a source file's compiled form, for what must run as a process of its own; compiles what has changed. */
export async function builtEntry(source: string): Promise<string> {
  const compile = promisify(execFile)(`${root}node_modules/.bin/tsc`, ['-b'], { cwd: root, timeout: 60_000 });
  // A type error somewhere is for the gate to report; what compiled is there all the same.
  await compile.catch(() => undefined);
  const path = `${root}dist/${source.replace(/\.ts$/, '.js')}`;
  await access(path);
  return path;
}
