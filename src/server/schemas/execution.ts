import { z } from 'zod';
import type { ExecMessage } from '../../wire/execution.js';
import { boxParams, guestPath, queryFlag, queryNumber, textMap } from './common.js';

const word = z.string().max(131_072);
const size = z.int().min(1).max(65_535);
const terminal = z.union([z.boolean(), z.strictObject({ cols: size, rows: size })]);
const user = z.string().min(1).max(256);

/** Longest time limit of a command, a year: beyond it timers overflow. */
const maxTimeoutSeconds = 31_536_000;

/** `ExecRequest` of the v1 contract, section 1.5, and `user`. */
export const execRequest = z.strictObject({
  command: word.min(1),
  args: z.array(word).max(4096).optional(),
  env: textMap.optional(),
  timeout_seconds: z.number().positive().max(maxTimeoutSeconds).optional(),
  working_dir: guestPath.optional(),
  tty: terminal.optional(),
  user: user.optional(),
  stdin: word.optional().describe('Text for stdin, which is closed after it'),
});

/** First message on `GET {p}/boxes/{id}/exec`. */
export const execMessage = z.strictObject({
  type: z.literal('exec'),
  argv: z.array(word).min(1).max(4097),
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
export const signalRequest = z.strictObject({
  signal: z.union([
    z
      .int()
      .refine((signal) => allowedSignals.includes(signal), `should be one of ${allowedSignals.join(', ')}`),
    z.string().regex(/^SIG[A-Z0-9+]{2,12}$/, 'should be a name such as SIGTERM'),
  ]),
});

/** Body of `POST .../resize`. */
export const resizeRequest = z.strictObject({ cols: size, rows: size });

/** `:eid` of an execution. */
export const executionParams = boxParams.extend({ eid: z.string().min(1).max(128) });

const offset = queryNumber(0, Number.MAX_SAFE_INTEGER).optional();

/**
 * Query of `GET .../attach`. `utf8=false`: frames are cut anywhere, and no byte waits for the next. `ack=true`: the
 * client says what it has got. `stdout_at`, `stderr_at`: what it has got already.
 */
export const attachQuery = z.strictObject({
  stdin: queryFlag.optional(),
  utf8: queryFlag.optional(),
  ack: queryFlag.optional(),
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
    signal: z.int().nullable(),
    started_at: z.string(),
    duration_ms: z.number().nullable(),
    command: z.string(),
    attached: z.boolean(),
    tty: z.boolean(),
  })
  .loose();
