import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ifExists } from '../base/files.js';
import { wrapHostError } from '../errors.js';
import type { PageServerConfig, PageServerEvent } from './page-server-config.js';

/** The process of {@link startPageServer}, compiled: beside this file, or beside its source's folder. */
const entry = fileURLToPath(new URL('../../dist/memory/page-server-main.js', import.meta.url));

/** A page server process. It outlives this process. */
export interface PageServer {
  readonly pid: number;
  /** Resolves with the exit code when it ends, or null after a signal. */
  readonly exited: Promise<number | null>;
  /** Sets it to work, once, as soon as QEMU waits on its socket. Until then it has only loaded itself. */
  serve(config: PageServerConfig): void;
}

/**
 * Starts a page server in a session of its own, while QEMU starts; its events go to the file `logPath`. An engine that
 * comes back finds it by pid and start time, and reads the file. It ends by itself when this process dies before
 * `serve`. `entryPath` is another build of the process.
 * @throws machine_failed when it cannot be started.
 */
export async function startPageServer(options: { logPath: string; entryPath?: string }): Promise<PageServer> {
  const log = await open(options.logPath, 'a', 0o600).catch((error: unknown) => {
    throw wrapHostError(error, 'starting a page server', 'machine_failed');
  });
  try {
    const child = spawn(process.execPath, [options.entryPath ?? entry], {
      detached: true,
      stdio: ['pipe', log.fd, log.fd],
    });
    const exited = once(child, 'exit').then(([code]) => code as number | null);
    exited.catch(() => undefined);
    await once(child, 'spawn');
    // A process that dies at once breaks the pipe; its exit says so.
    child.stdin?.on('error', () => undefined);
    child.unref();
    const serve = (config: PageServerConfig): void => void child.stdin?.end(JSON.stringify(config));
    return { pid: child.pid ?? 0, exited, serve };
  } catch (error) {
    throw wrapHostError(error, 'starting a page server', 'machine_failed');
  } finally {
    await log.close();
  }
}

/** What a page server has said so far; lines that are no events (a crash's words) are left out. */
export async function readPageServerLog(logPath: string): Promise<PageServerEvent[]> {
  const text = (await ifExists(readFile(logPath, 'utf8'))) ?? '';
  return text.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return [];
    try {
      return [JSON.parse(line) as PageServerEvent];
    } catch {
      return [];
    }
  });
}
