// Child processes of the set-up: argument vectors, a hard time limit, and no process left behind.
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Output kept of a command, for its error message: a failed build shows its cause in the last lines. */
const TAIL_BYTES = 32 * 1024;
/** What is captured of a command whose output is wanted: cargo's artifact list is the largest, well under 1 MB. */
const CAPTURE_BYTES = 16 * 1024 * 1024;
/** How often a long step says that it is alive, for logs without a terminal. */
const HEARTBEAT_MS = 15_000;
/** Time from SIGTERM to SIGKILL. */
const GRACE_MS = 5000;

const running = new Set();

/** Directories where a command may be: PATH, the administrator's directories and cargo's own. */
export function searchPath() {
  const path = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  return [...path, '/usr/local/sbin', '/usr/sbin', '/sbin', join(homedir(), '.cargo', 'bin')];
}

/** The path of a command, or undefined. */
export function which(command) {
  for (const directory of searchPath()) {
    const path = join(directory, command);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  return undefined;
}

function killGroup({ pid, foreground }, signal) {
  try {
    process.kill(foreground ? pid : -pid, signal);
  } catch {
    // The group has ended.
  }
}

/** Ends everything that was started; for the signal handlers of the script. */
export function killAll() {
  for (const group of running) killGroup(group, 'SIGKILL');
}

/**
 * Runs a command to its end and resolves with `{ status, stdout, tail, timedOut }`; never rejects for a command that
 * failed. `timeoutMs` is a must. With `label`, a heartbeat line is printed while it runs. `foreground` leaves it in the
 * terminal's process group, which sudo needs to ask for a password.
 */
export function tryRun(command, args, options) {
  const { cwd, env, timeoutMs, capture = false, label, foreground = false } = options;
  return new Promise((resolve) => {
    const started = Date.now();
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, PATH: searchPath().join(delimiter), LC_ALL: 'C.UTF-8', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own, so that the time limit reaches what the command itself has started.
      detached: !foreground,
    });
    const group = { pid: child.pid, foreground };
    running.add(group);
    let tail = '';
    let stdout = '';
    let timedOut = false;
    const keep = (chunk) => {
      tail = (tail + chunk).slice(-TAIL_BYTES);
    };
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      if (capture) stdout = (stdout + chunk).slice(-CAPTURE_BYTES);
      else keep(chunk);
    });
    child.stderr.setEncoding('utf8').on('data', keep);
    const limit = setTimeout(() => {
      timedOut = true;
      killGroup(group, 'SIGTERM');
      setTimeout(() => killGroup(group, 'SIGKILL'), GRACE_MS).unref();
    }, timeoutMs);
    const heartbeat = setInterval(() => {
      if (!label) return;
      const seconds = Math.round((Date.now() - started) / 1000);
      process.stdout.write(`     ${label}: ${seconds} s  ${lastLine(tail)}\n`);
    }, HEARTBEAT_MS);
    const done = (status, problem) => {
      clearTimeout(limit);
      clearInterval(heartbeat);
      running.delete(group);
      resolve({ status, stdout, tail: problem ?? tail, timedOut });
    };
    child.on('error', (error) => done(127, error.message));
    child.on('close', (code, signal) => done(code ?? (signal === null ? 1 : 128)));
  });
}

function lastLine(text) {
  return (
    text
      .trimEnd()
      .split(/[\r\n]+/)
      .pop() ?? ''
  ).slice(0, 100);
}

/** {@link tryRun} that throws a {@link SetupError} with the last lines of output when the command fails. */
export async function run(command, args, options) {
  const result = await tryRun(command, args, options);
  if (result.status === 0 && !result.timedOut) return result;
  const what = [command, ...args].join(' ');
  const why = result.timedOut
    ? `did not end within ${options.timeoutMs / 1000} s`
    : `ended with ${result.status}`;
  const lines = result.tail.trimEnd().split('\n').slice(-25).join('\n');
  throw new SetupError(`\`${what}\` ${why}${lines === '' ? '' : `\n${lines}`}`, options?.hint);
}

/** A failure of the set-up that the user can read: a message, and what to do. */
export class SetupError extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}
