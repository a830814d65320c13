import { open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { neededPackageFile } from '../base/package-files.js';
import { startProcess } from '../base/process/index.js';
import type { HomePaths } from '../engine/core/home.js';
import { homeWarning, inspectHome, prepareHome } from '../engine/core/home-directory.js';
import { ensureKernel } from '../engine/machines/kernel-fetch.js';
import { CryoboxError, isErrorCode } from '../errors.js';

/** What a background engine writes to its parent, one line of JSON, when it answers or has failed. */
export interface ReadyMessage {
  readonly ready: boolean;
  readonly code?: string;
  readonly message?: string;
  readonly hint?: string;
}

/** How an engine in the background is started. */
export interface BackgroundOptions {
  /** Waiting machines per shape in use. @default 1 */
  readonly poolSize?: number | undefined;
  /** Told what speaks against the place of a home that is about to be made, and what the start waits for. */
  readonly onWarning?: (text: string) => void;
}

/** Recovery of a home with many machines takes seconds; a busy host may need far longer. */
const startTimeoutMs = 120_000;

/** File descriptor on which a background engine says that it is ready: the channel of its start. */
const readyFd = 3;

/**
 * Starts an engine in the background, in a process of its own that outlives this one, and waits until it answers. False
 * when another one has the home. Throws what opening an engine throws, `engine_unavailable` when it ends without a word.
 */
export async function startBackground(paths: HomePaths, options: BackgroundOptions = {}): Promise<boolean> {
  const message = await spawnEngine(paths, options);
  if (message.ready) return true;
  if (message.code === 'home_in_use') return false;
  const code = message.code && isErrorCode(message.code) ? message.code : 'engine_unavailable';
  throw new CryoboxError(
    code,
    message.message ?? `the engine ended while it started; see ${paths.engineLog}`,
    { hint: message.hint },
  );
}

async function spawnEngine(
  paths: HomePaths,
  { poolSize, onWarning }: BackgroundOptions,
): Promise<ReadyMessage> {
  const warning = (await inspectHome(paths)) === 'home' ? undefined : await homeWarning(paths);
  if (warning) onWarning?.(warning);
  await prepareHome(paths);
  await ensureKernel((text) => onWarning?.(text));
  const log = await open(paths.engineLog, 'a', 0o600);
  try {
    // The compiled program, also when this runs from sources.
    const command = neededPackageFile('dist/cli/main.js');
    const pool = poolSize === undefined ? [] : ['--pool-size', String(poolSize)];
    const child = await startProcess(process.execPath, {
      args: [command, 'engine', 'run', ...pool],
      cwd: '/',
      session: true,
      stdout: log.fd,
      stderr: log.fd,
      channel: true,
      env: { ...process.env, CRYOBOX_HOME: paths.root, CRYOBOX_READY_FD: String(readyFd) },
    });
    const late = setTimeout(() => child.kill('SIGKILL'), startTimeoutMs);
    try {
      return await readyMessage(child.channel);
    } finally {
      clearTimeout(late);
      // It belongs to the home, not to who was the first to need it.
      child.release();
    }
  } finally {
    await log.close();
  }
}

async function readyMessage(channel: Socket): Promise<ReadyMessage> {
  let text = '';
  try {
    for await (const chunk of channel.setEncoding('utf8')) {
      text += chunk as string;
      if (text.includes('\n')) break;
    }
  } finally {
    channel.destroy();
  }
  return text === '' ? { ready: false } : (JSON.parse(text) as ReadyMessage);
}
