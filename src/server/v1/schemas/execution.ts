import { z } from 'zod';
import type { ExecMessage } from '../../../wire/execution.js';
import {
  boxParams,
  errorBody,
  guestPath,
  named,
  openQuery,
  queryFlag,
  queryNumber,
  textMap,
} from '../../http/common-schemas.js';

const word = z.string().max(131_072);
const size = z.int().min(1).max(65_535);
const terminal = z.union([z.boolean(), z.strictObject({ cols: size, rows: size })]);
const user = z.string().min(1).max(256);

/** Longest time limit of a command, a year: beyond it timers overflow. */
const maxTimeoutSeconds = 31_536_000;

/** What a waited command's answer has of each stream. An answer is held in memory, and JSON of it is larger. */
export const defaultOutputBytes = 1024 * 1024;
const maxOutputBytes = 16 * 1024 * 1024;

const encoding = z
  .enum(['utf8', 'base64'])
  .describe('How output stands in the answer: as text, or bytes in base64. Default: utf8');

/** `ExecRequest` of the v1 contract, section 1.5, and `user`. */
export const execRequest = z
  .strictObject({
    command: word.min(1),
    args: z.array(word).max(65_535).optional(),
    env: textMap.optional(),
    timeout_seconds: z.number().positive().max(maxTimeoutSeconds).optional(),
    working_dir: guestPath.optional(),
    tty: terminal.optional(),
    user: user.optional(),
    stdin: word.optional().describe('Text for stdin, which is closed after it'),
    keep: z
      .boolean()
      .optional()
      .describe('Whether it goes on although nobody attaches to it or asks for its logs. Default: false'),
    max_output_bytes: z
      .int()
      .min(1)
      .max(maxOutputBytes)
      .optional()
      .describe(
        'With wait=true: most that is answered of each stream, its first and last half. Default: 1 MiB',
      ),
    encoding: encoding.optional(),
  })
  .register(named, { id: 'ExecRequest' });

/** Query of `POST {p}/boxes/{id}/exec`. */
export const execQuery = openQuery({ wait: queryFlag.optional() });

/** What `POST {p}/boxes/{id}/exec` answers with. */
export const startedBody = z.object({ execution_id: z.string() }).register(named, { id: 'ExecutionStarted' });

/** The same with `wait=true`. */
export const executionResult = z
  .object({
    execution_id: z.string(),
    exit_code: z.int().describe('-N when signal N ended it'),
    signal: z.int().nullable(),
    timed_out: z.boolean(),
    duration_ms: z.int(),
    encoding,
    stdout: z.string().describe('In utf8 with a line in the place of what was cut'),
    stderr: z.string(),
    stdout_bytes: z.int().describe('All that it wrote'),
    stderr_bytes: z.int(),
    stdout_cut_bytes: z.int().describe('What is missing in the middle'),
    stderr_cut_bytes: z.int(),
  })
  .register(named, { id: 'ExecutionResult' });

/** Query of `GET .../logs`. */
export const executionLogsQuery = z.strictObject({
  follow: queryFlag.optional(),
  output: z.enum(['stdout', 'stderr']).optional(),
  encoding: encoding.optional(),
  stdout_at: queryNumber(0, Number.MAX_SAFE_INTEGER).optional(),
  stderr_at: queryNumber(0, Number.MAX_SAFE_INTEGER).optional(),
});

const positions = { stdout_at: z.int(), stderr_at: z.int() };

/** One line of `GET .../logs`. */
export const logLine = z
  .discriminatedUnion('type', [
    z.object({
      type: z.literal('output'),
      stream: z.enum(['stdout', 'stderr']),
      at: z.int().describe('Offset of its first byte'),
      end: z.int().describe('Offset behind its last byte'),
      text: z.string().optional(),
      base64: z.string().optional(),
    }),
    z.object({
      type: z.literal('output_lost'),
      stream: z.enum(['stdout', 'stderr']),
      at: z.int(),
      bytes: z.int().describe('What is kept no more'),
    }),
    z.object({ type: z.literal('running'), ...positions }),
    z.object({
      type: z.literal('exit'),
      exit_code: z.int().nullable(),
      signal: z.int().nullable(),
      timed_out: z.boolean(),
      duration_ms: z.int().nullable(),
      ...positions,
    }),
    z.object({ type: z.literal('error'), error: errorBody.shape.error }),
  ])
  .register(named, { id: 'ExecutionLogLine' });

/** Query of `POST .../stdin`. */
export const stdinQuery = z.strictObject({ eof: queryFlag.optional() });

/** What `POST .../stdin` answers with. */
export const stdinTaken = z
  .object({ bytes: z.int().describe('What the command was given'), eof: z.boolean() })
  .register(named, { id: 'StdinTaken' });

/** First message on `GET {p}/boxes/{id}/exec`. */
export const execMessage = z.strictObject({
  type: z.literal('exec'),
  argv: z.array(word).min(1).max(65_536),
  env: textMap.optional(),
  cwd: guestPath.optional(),
  user: user.optional(),
  timeout_ms: z
    .number()
    .positive()
    .max(maxTimeoutSeconds * 1000)
    .optional(),
  tty: terminal.optional(),
  stdin: z.boolean().optional(),
  kill_on_disconnect: z.boolean().optional(),
  ack: z.boolean().optional(),
}) satisfies z.ZodType<ExecMessage>;

/** Signals that v1 lets through by number (contract, section 1.4). */
export const allowedSignals: readonly number[] = [1, 2, 3, 6, 10, 12, 15, 28];

/** Body of `POST .../signal`. By name every signal may be sent. */
export const signalRequest = z
  .strictObject({
    signal: z.union([
      z
        .int()
        .refine((signal) => allowedSignals.includes(signal), `should be one of ${allowedSignals.join(', ')}`),
      z.string().regex(/^(?:SIG)?[A-Z0-9+]{2,12}$/, 'should be a name such as SIGTERM'),
    ]),
  })
  .register(named, { id: 'SignalRequest' });

/** Body of `POST .../resize`. */
export const resizeRequest = z
  .strictObject({ cols: size, rows: size })
  .register(named, { id: 'ResizeRequest' });

/** `:eid` of an execution. */
export const executionParams = boxParams.extend({ eid: z.string().min(1).max(128) });

const offset = queryNumber(0, Number.MAX_SAFE_INTEGER).optional();

/**
 * Query of `GET .../attach`. `utf8=false`: frames are cut anywhere, and no byte waits for the next. `ack=true`: the
 * client says what it has got. `stdout_at`, `stderr_at`: what it has got already.
 */
export const attachQuery = openQuery({
  stdin: queryFlag.optional(),
  utf8: queryFlag.optional(),
  ack: queryFlag.optional(),
  kill_on_disconnect: queryFlag.optional(),
  stdout_at: offset,
  stderr_at: offset,
});

/** `ExecutionInfo` of the v1 contract, section 1.5, and ours. */
export const executionBody = z
  .object({
    execution_id: z.string(),
    box_id: z.string(),
    status: z.enum(['running', 'completed', 'killed', 'timed_out']),
    exit_code: z.int().nullable(),
    command_exit_code: z.int().nullable(),
    signal: z.int().nullable(),
    started_at: z.string(),
    duration_ms: z.number().nullable(),
    command: z.string(),
    attached: z.boolean(),
    tty: z.boolean(),
    pid: z.int().nullable(),
    lost_stdout: z.int(),
    lost_stderr: z.int(),
    error_message: z.string().optional(),
  })
  .loose()
  .register(named, { id: 'Execution' });
