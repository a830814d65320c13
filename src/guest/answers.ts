/** What the agent answers, checked: whoever is root in a guest can answer in its place. */
import { z } from 'zod';
import { CryoboxError } from '../errors.js';

/** Sizes, counts and times, as far as they are exact. */
const count = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
const id = z.int().min(0).max(0xffff_ffff);
/** Times that a Date can hold (ECMA-262, "Time Values and Time Range"); a file may have any time. */
const maxTime = 8.64e15;
const time = z.number().transform((ms) => Math.max(-maxTime, Math.min(maxTime, ms)));
/** A file may say any size. */
const size = z.number().transform((bytes) => Math.max(0, Math.min(Number.MAX_SAFE_INTEGER, bytes)));
/** Parts of mounting a root that an agent may tell of; it has a dozen. */
const maxStages = 64;
/** Names and targets of links have at most 4,096 bytes, each up to six characters when escaped. */
const name = z.string().max(24_576);

/** What an agent says of itself. */
export const agentHello = z.object({
  protocol: z.int(),
  agentVersion: z.string().max(64),
  /** Names the sources the agent was built from. */
  build: z.string().max(256),
  /** `waiting` until a root is mounted. */
  state: z.enum(['waiting', 'ready']),
  /** A nonce only in the guest's memory, new with every mount of a root. */
  run: z.string().max(256).nullable(),
});

/** A file as the guest describes it. */
export const fileInfo = z.object({
  /** Last component of the path. Bytes that are not UTF-8 appear as the code units U+DC80 to U+DCFF. */
  name,
  type: z.enum(['file', 'directory', 'symlink', 'character', 'block', 'fifo', 'socket']),
  size,
  /** Permission bits, 0 to 0o7777. */
  mode: z.int().min(0).max(0o7777),
  uid: id,
  gid: id,
  mtimeMs: time,
  /** Where a symbolic link leads. */
  linkTarget: name.nullable(),
});

const watchWords = ['started', 'created', 'written', 'removed', 'renamed', 'attributes', 'overflow'] as const;

/** What is told of a watched directory. */
export const watchEvent = z.object({
  /** `started` comes first. `other`: what agents of later releases tell too. */
  type: z
    .string()
    .max(64)
    .transform((word) => watchWords.find((known) => known === word) ?? 'other'),
  /** Below the directory; empty for itself. */
  name,
  /** The new name, of `renamed`. */
  to: name.nullable(),
  isDirectory: z.boolean(),
});

/** Where a link leads. */
export const linkAnswer = z.object({ target: name });

/** What was packed or unpacked. */
export const tarResult = z.object({
  entries: count,
  /** Content bytes. */
  bytes: count,
});

const exitCode = z.int().min(0).max(255).nullable();
const signalNumber = z.int().min(0).max(64).nullable();

/** An execution as the agent lists it. */
export const executionInfo = z.object({
  exec: z.string().max(64),
  pid: id,
  command: z.string(),
  tty: z.boolean(),
  state: z.enum(['running', 'ended']),
  attached: z.boolean(),
  /** Exit code, or null when a signal ended it. */
  code: exitCode,
  /** Number of the signal, or null. */
  signal: signalNumber,
  /** Its `timeoutMs` ended it. */
  timedOut: z.boolean(),
  /** By the guest's clock. */
  startedAtUnixMs: time,
  durationMs: count.nullable(),
  /** Bytes that no reader took and that are kept no more; an agent in an older memory does not say. */
  stdoutLost: count.default(0),
  stderrLost: count.default(0),
});

/** How an execution ended. */
export const exitEvent = executionInfo
  .pick({ exec: true, code: true, signal: true, timedOut: true, startedAtUnixMs: true })
  .extend({ durationMs: count });

/** Items of a list are checked one by one: the first wrong one ends that, and a thousand wrong ones would take long. */
const items = (max: number) => z.array(z.unknown()).max(max);

/** One page of executions (docs/PROTOCOL.md, section 6), each an {@link executionInfo}. */
export const executionPage = z.object({ executions: items(200), more: z.boolean() });

/** What starting or attaching to an execution is answered with; what it has no stream of is false. */
export const joinedExecution = z.object({
  pid: id,
  stdin: z.boolean().optional(),
  stdout: z.boolean().optional(),
  stderr: z.boolean().optional(),
  stdoutDropped: count.default(0),
  stderrDropped: count.default(0),
  stdinAccepted: count.optional(),
  stdoutAt: count.optional(),
  stderrAt: count.optional(),
});

/** What sending what is kept of an output is answered with. */
export const outputAnswer = z.object({ at: count });

const times = (...names: string[]) => z.object(Object.fromEntries(names.map((each) => [each, count])));

/** How long the parts of mounting a root took, in milliseconds. */
export const mountStages = z
  .record(z.string(), z.unknown())
  .refine((stages) => Object.keys(stages).length <= maxStages)
  .pipe(z.record(z.string().max(64), count));

/** Figures of one network card of a guest. */
export const networkMetrics = times('receivedBytes', 'receivedPackets', 'sentBytes', 'sentPackets').extend({
  interface: z.string().max(64),
});

/** Figures of a guest. */
export const guestMetrics = z.object({
  uptimeMs: count,
  cpu: times('cpus', 'userMs', 'systemMs', 'idleMs', 'waitMs', 'stolenMs'),
  memory: times(
    'totalBytes',
    'freeBytes',
    'availableBytes',
    'cachedBytes',
    'swapTotalBytes',
    'swapFreeBytes',
  ),
  /** Each a {@link networkMetrics}. */
  network: items(1024),
  disk: times('totalBytes', 'freeBytes', 'availableBytes', 'files', 'freeFiles'),
});

/** The error for an agent that does not speak as agents do. */
export function brokenAgent(what: string, cause?: unknown): CryoboxError {
  return new CryoboxError('agent_mismatch', `the agent of the box broke the protocol: ${what}`, {
    cause,
    hint: 'A program that is root in the box may speak in the place of the agent. Stop and start the box.',
  });
}

/** An answer of the agent, as it should be. Throws `agent_mismatch`. */
export function checkedAnswer<T>(schema: z.ZodType<T>, answer: unknown, op: string): T {
  const { data, error } = schema.safeParse(answer);
  if (!error) return data;
  const issue = error.issues[0];
  throw brokenAgent(`${op} was answered with a wrong ${issue?.path.join('.') || 'value'}`, error);
}
