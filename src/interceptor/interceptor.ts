import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { neededPackageFile } from '../base/package-files.js';
import { type StartedProcess, startProcess } from '../base/process/index.js';
import { CryoboxError } from '../errors.js';
import {
  type InterceptorOrder,
  type InterceptorRefusal,
  type InterceptorStart,
  type InterceptorWord,
  interceptorSocket,
} from './messages.js';

/** The process, compiled. */
const entry = 'dist/interceptor/interceptor-main.js';
/** It loads in half a second; a busy host may need far longer. */
const startTimeoutMs = 30_000;
/** What its connections and bodies under way need, several times over: one that wants more ends, and is started again. */
const heapMiB = 192;
/** Both sides of its connections. */
const openFiles = 4096;

/** What an interceptor is started with. */
export interface InterceptorOptions extends InterceptorStart {
  /** Its own directory; made if it is not there. */
  readonly directory: string;
  /** Called with what it refuses. */
  readonly onRefusal: (refusal: InterceptorRefusal) => void;
}

/** The process that puts secrets into requests of boxes. It ends with this one. */
export class Interceptor {
  /** Where it listens; gateways reach it by hard links. */
  readonly socketPath: string;
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<void>;
  readonly #child: StartedProcess;

  private constructor(directory: string, child: StartedProcess) {
    this.socketPath = join(directory, interceptorSocket);
    this.#child = child;
    this.exited = child.exited.then(() => undefined);
  }

  /** Starts one, which takes connections from then on. Throws `machine_failed`, `resource_exhausted`, `config_error`. */
  static async start({ directory, onRefusal, ...first }: InterceptorOptions): Promise<Interceptor> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await rm(join(directory, interceptorSocket), { force: true });
    const log = await open(join(directory, 'interceptor.log'), 'w', 0o600);
    try {
      const limits = ['--core=0', `--nofile=${openFiles}:${openFiles}`];
      const program = [`--max-old-space-size=${heapMiB}`, neededPackageFile(entry)];
      const child = await startProcess('prlimit', {
        args: [...limits, '--', process.execPath, ...program],
        cwd: directory,
        session: true,
        stdin: 'pipe',
        stdout: 'pipe',
        stderr: log.fd,
        env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
      });
      child.stdin.write(`${JSON.stringify(first)}\n`);
      const ready = new Promise<boolean>((resolve) => {
        createInterface({ input: child.stdout }).on('line', (line) => {
          const word = JSON.parse(line) as InterceptorWord;
          if ('ready' in word) resolve(true);
          else onRefusal(word);
        });
      });
      const late = delay(startTimeoutMs, false, { ref: false });
      if (await Promise.race([ready, child.exited.then(() => false), late])) {
        return new Interceptor(directory, child);
      }
      await child[Symbol.asyncDispose]();
      throw new CryoboxError(
        'machine_failed',
        `the process that puts secrets in did not start; see ${join(directory, 'interceptor.log')}`,
      );
    } finally {
      await log.close();
    }
  }

  /** Tells it what it has to know. */
  order(order: InterceptorOrder): void {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
  }

  /** Ends it at once: requests with secrets are refused until there is another one. */
  async end(): Promise<void> {
    this.#child.kill();
    await this.exited;
  }
}
