import { open, readFile } from 'node:fs/promises';
import { ifExists } from '../base/files.js';
import { neededPackageFile } from '../base/package-files.js';
import { startProcess } from '../base/process/index.js';
import { wrapHostError } from '../errors.js';
import type { PageServerConfig, PageServerEvent } from './page-server-config.js';

/** The process of {@link startPageServer}, compiled. */
const entry = 'dist/memory/page-server-main.js';

/** A page server process. It outlives this process. */
export interface PageServer {
  readonly pid: number;
  /** Resolves with the exit code when it ends, or null after a signal; never rejects. */
  readonly exited: Promise<number | null>;
  /** Sets it to work, once, as soon as QEMU waits on its socket. Until then it has only loaded itself. */
  serve(config: PageServerConfig): void;
  /** Ends it at once. */
  kill(): void;
}

/**
 * Starts a page server in a session of its own, while QEMU starts; its events go to the file `logPath`. An engine that
 * comes back finds it by pid and start time, and reads the file. It ends by itself when this process dies before
 * `serve`. `entryPath` is another build of the process.
 * @throws machine_failed or resource_exhausted when it cannot be started.
 */
export async function startPageServer(options: { logPath: string; entryPath?: string }): Promise<PageServer> {
  const log = await open(options.logPath, 'a', 0o600).catch((error: unknown) => {
    throw wrapHostError(error, 'starting a page server', 'machine_failed');
  });
  try {
    const child = await startProcess(process.execPath, {
      args: [options.entryPath ?? neededPackageFile(entry)],
      session: true,
      stdin: 'pipe',
      stdout: log.fd,
      stderr: log.fd,
    });
    // From here on it is found by its pid; before it is set to work it ends with this process.
    child.release();
    const exited = child.exited.then(({ code }) => code);
    const serve = (config: PageServerConfig): void => {
      child.stdin.end(JSON.stringify(config));
    };
    return { pid: child.pid, exited, serve, kill: () => child.kill() };
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
