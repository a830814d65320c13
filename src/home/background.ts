import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connectUnix } from '../base/socket.js';
import { type HomePaths, prepareHome } from '../engine/home.js';
import { CryoboxError, errnoOf, isErrorCode } from '../errors.js';

/** What a background engine writes to its parent, one line of JSON, when it answers or has failed. */
export interface ReadyMessage {
  readonly ready: boolean;
  readonly code?: string;
  readonly message?: string;
  readonly hint?: string;
}

/** File descriptor on which a background engine says that it is ready. */
const readyFd = 3;

/** Recovery of a home with many machines takes seconds; a busy host may need far longer. */
const startTimeoutMs = 60_000;
/** Two callers may start an engine at once; the one that lost the home waits this long between looks. */
const retryDelayMs = 25;

/** Makes sure that an engine answers on the socket of a home, starting one in the background when there is none. */
export async function ensureEngine(paths: HomePaths): Promise<void> {
  const deadline = Date.now() + startTimeoutMs;
  while (!(await answers(paths.socket))) {
    if (Date.now() > deadline) {
      throw new CryoboxError(
        'engine_unavailable',
        `no engine answers at ${paths.socket} after ${startTimeoutMs} ms`,
      );
    }
    const message = await startEngine(paths);
    if (message.ready) return;
    if (message.code !== 'home_in_use') throw startFailure(message, paths);
    await delay(retryDelayMs);
  }
}

/** Whether something listens on a unix socket. */
export async function answers(socketPath: string): Promise<boolean> {
  try {
    (await connectUnix(socketPath)).destroy();
    return true;
  } catch (error) {
    if (['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error) ?? '')) return false;
    throw error;
  }
}

function startFailure(message: ReadyMessage, paths: HomePaths): CryoboxError {
  const code = message.code && isErrorCode(message.code) ? message.code : 'engine_unavailable';
  return new CryoboxError(
    code,
    message.message ?? `the engine ended while it started; see ${paths.engineLog}`,
    {
      hint: message.hint,
    },
  );
}

async function startEngine(paths: HomePaths): Promise<ReadyMessage> {
  await prepareHome(paths);
  const log = await open(paths.engineLog, 'a', 0o600);
  try {
    const command = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    const child = spawn(process.execPath, [command, 'engine', 'run'], {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log.fd, log.fd, 'pipe'],
      env: { ...process.env, CRYOBOX_HOME: paths.root, CRYOBOX_READY_FD: String(readyFd) },
    });
    return await readyMessage(child);
  } finally {
    await log.close();
  }
}

async function readyMessage(child: ChildProcess): Promise<ReadyMessage> {
  await Promise.race([
    once(child, 'spawn'),
    once(child, 'error').then(([error]) => Promise.reject(error as Error)),
  ]);
  const channel = child.stdio[readyFd] as Readable & { unref(): void };
  let text = '';
  for await (const chunk of channel.setEncoding('utf8')) {
    text += chunk as string;
    if (text.includes('\n')) break;
  }
  channel.destroy();
  child.unref();
  return text === '' ? { ready: false } : (JSON.parse(text) as ReadyMessage);
}
