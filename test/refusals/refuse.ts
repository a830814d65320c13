import childProcess from 'node:child_process';
import fs from 'node:fs';
import fsp, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { devNull } from 'node:os';
import { fileURLToPath } from 'node:url';

/** What a host may refuse, and by which codes: the first when it does so once, the second when it goes on. */
const codes = {
  spawn: ['EAGAIN', 'EMFILE'],
  open: ['EMFILE', 'EIO'],
  make: ['ENOSPC', 'EIO'],
  connect: ['EAGAIN', 'EMFILE'],
  fsync: ['EIO', 'ENOSPC'],
  commit: ['SQLITE_FULL', 'SQLITE_IOERR_WRITE'],
} as const;

/** A kind of call to the host. */
export type Kind = keyof typeof codes;

/** How long a refusal lasts. */
export const modes = ['once', 'ever'] as const;
export type Mode = (typeof modes)[number];

/** What is refused: calls that come from one place of the compiled engine. */
interface Plan {
  readonly place: string;
  readonly mode: Mode;
}

let plan: Plan | undefined;
let hits = 0;
let trace: Set<string> | undefined;

/** Notes the places that call the host while `task` runs, in order. */
export async function tracing(task: () => Promise<void>): Promise<string[]> {
  trace = new Set();
  try {
    await task();
    return [...trace];
  } finally {
    trace = undefined;
  }
}

/** Refuses what comes from a place while `task` runs. Returns how often that was. */
export async function refusing(next: Plan, task: () => Promise<void>): Promise<number> {
  plan = next;
  hits = 0;
  try {
    await task();
    return hits;
  } finally {
    plan = undefined;
  }
}

/** The code that the call has to be refused with, if it has. */
function refusal(kind: Kind): string | undefined {
  if (!plan && !trace) return undefined;
  const place = placeOf(kind);
  if (place === undefined) return undefined;
  trace?.add(place);
  if (plan?.place !== place || (plan.mode === 'once' && hits > 0)) return undefined;
  hits += 1;
  return codes[kind][plan.mode === 'once' ? 0 : 1];
}

/** Frames of a stack that tell one place from another: the helper that calls the host, and who called it. */
const framesKept = 3;

/** Where the engine's files are; its frames are told by the files that they were compiled from. */
const source = fileURLToPath(new URL('../../src/', import.meta.url));

/** The kind and the innermost frames of the engine's; undefined for what is not the engine's. */
function placeOf(kind: Kind): string | undefined {
  const frames = (new Error().stack ?? '')
    .split(source)
    .slice(1)
    .map((frame) => /^[\w/.-]+:\d+/.exec(frame)?.[0] ?? '')
    .filter((frame) => !/^store\/(dialect|better-sqlite|node-sqlite)\./.test(frame));
  return frames.length === 0 ? undefined : `${kind} ${frames.slice(0, framesKept).join(' < ')}`;
}

function errorOf(code: string, call: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: refused by a test, ${call}`), { code, syscall: call });
}

/** Has every call of these kinds ask first. The engine is loaded in this process; nothing is undone. */
export async function install(): Promise<void> {
  Error.stackTraceLimit = 40;
  installFiles();
  await installHandles();
  installProcesses();
  installSockets();
  await installDatabase();
  syncBuiltinESMExports();
}

// biome-ignore lint/suspicious/noExplicitAny: functions of all shapes are wrapped alike.
type AnyFunction = (...parameters: any[]) => any;

function installFiles(): void {
  const made = ['mkdir', 'mkdtemp', 'link', 'rename', 'writeFile', 'copyFile', 'symlink'];
  for (const name of ['open', 'readFile', 'readdir', 'stat', ...made]) {
    const kind = made.includes(name) ? 'make' : 'open';
    const table = fsp as unknown as Record<string, AnyFunction>;
    const real = table[name] as AnyFunction;
    table[name] = (...parameters) => {
      const code = refusal(kind);
      return code === undefined ? real(...parameters) : Promise.reject(errorOf(code, name));
    };
  }
  for (const [name, kind] of [
    ['openSync', 'open'],
    ['readFileSync', 'open'],
    ['fsyncSync', 'fsync'],
  ] as const) {
    const table = fs as unknown as Record<string, AnyFunction>;
    const real = table[name] as AnyFunction;
    table[name] = (...parameters) => {
      const code = refusal(kind);
      if (code !== undefined) throw errorOf(code, name);
      return real(...parameters);
    };
  }
}

async function installHandles(): Promise<void> {
  const handle = await fsp.open(devNull);
  const prototype = Object.getPrototypeOf(handle) as Record<'sync' | 'datasync', FileHandle['sync']>;
  await handle.close();
  for (const name of ['sync', 'datasync'] as const) {
    const real = prototype[name];
    prototype[name] = function (this: FileHandle) {
      const code = refusal('fsync');
      return code === undefined ? real.call(this) : Promise.reject(errorOf(code, name));
    };
  }
}

function installProcesses(): void {
  const table = childProcess as unknown as Record<string, AnyFunction>;
  const real = childProcess.spawn as AnyFunction;
  table.spawn = (command: string, ...more) => {
    const code = refusal('spawn');
    if (code === undefined) return real(command, ...more);
    // A process that was not started is told by an event, as by Node itself.
    const child = real('/nowhere/refused', ...more) as childProcess.ChildProcess;
    const emit = child.emit.bind(child) as AnyFunction;
    child.emit = (name: string, ...values: unknown[]) =>
      name === 'error' ? emit('error', errorOf(code, `spawn ${command}`)) : emit(name, ...values);
    return child;
  };
}

function installSockets(): void {
  const real = net.Socket.prototype.connect as AnyFunction;
  net.Socket.prototype.connect = function (this: net.Socket, ...parameters: unknown[]) {
    const code = refusal('connect');
    if (code === undefined) return real.apply(this, parameters);
    process.nextTick(() => this.destroy(errorOf(code, 'connect')));
    return this;
  } as typeof real;
}

/** What makes a change durable by itself, or ends a transaction. */
const writes = /^\s*(commit|insert|update|delete|replace)\b/i;

async function installDatabase(): Promise<void> {
  const { default: Database } = await import('better-sqlite3');
  const file = new Database(':memory:');
  const prototype = Object.getPrototypeOf(file.prepare('select 1')) as {
    run: AnyFunction;
    readonly source: string;
    readonly database: InstanceType<typeof Database>;
  };
  file.close();
  const real = prototype.run;
  prototype.run = function (this: typeof prototype, ...parameters: unknown[]) {
    const code = writes.test(this.source) ? refusal('commit') : undefined;
    if (code === undefined) return real.apply(this, parameters);
    // A full disk takes the whole transaction with it (SQLite, "Response To Errors Within A Transaction").
    if (this.database.inTransaction) this.database.exec('rollback');
    throw new Database.SqliteError(`${code}: refused by a test`, code);
  };
}
