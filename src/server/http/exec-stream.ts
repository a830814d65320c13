import type { WebSocket } from 'ws';
import { z } from 'zod';
import { parseJson } from '../../base/json.js';
import { outputLost } from '../../base/lost-output.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import {
  type AttachedMessage,
  type ClientMessage,
  channels,
  exitCodeOfCut,
  exitToJson,
  maxOutputFrameBytes,
} from '../../wire/execution.js';
import type { JsonObject } from '../../wire/json.js';
import { invalidArgument } from './errors.js';
import type { Inbox, Message } from './inbox.js';
import type { Outbox } from './outbox.js';
import type { Reel, Tape } from './reel.js';
import { Utf8Cutter } from './utf8.js';

/** How a command's streams are carried. */
export interface ExecStreamOptions {
  /** Cuts output at borders of UTF-8 characters, which v1 clients need. */
  readonly utf8: boolean;
  /** Whether the client may write to stdin and signal. */
  readonly readOnly: boolean;
  /** Whether the client says what it has got; else what was sent counts as such. */
  readonly ack: boolean;
  /** Where it goes on: offsets from the command's first byte. @default the first byte that is kept */
  readonly from?: { readonly stdout?: number; readonly stderr?: number };
}

/** How a connection to a command ended. */
export type StreamEnd =
  /** The command ended, and the client was told. */
  | 'ended'
  /** The client closed the connection in order. */
  | 'left'
  /** The connection broke, or was refused; the client may come back for the rest. */
  | 'lost';

/**
 * How long the beginning of a character is held back for its rest. A program that writes half a character and waits
 * for an answer must not wait for ever; on a busy host the rest of one that does not wait may take a while to come.
 */
const holdMs = 2_000;

const ackMessage = z.strictObject({
  type: z.literal('ack'),
  stdout: z.int().min(0),
  stderr: z.int().min(0),
});

const clientMessage: z.ZodType<ClientMessage> = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('stdin_eof') }),
  z.strictObject({
    type: z.literal('resize'),
    cols: z.int().min(1).max(65_535),
    rows: z.int().min(1).max(65_535),
  }),
  z.strictObject({ type: z.literal('signal'), sig: z.int().min(1).max(64) }),
  ackMessage,
]);

/** Longest text message: a command and its environment in 2 MiB, the most the kernel takes, with room for escapes. */
const maxTextBytes = 4 * 1024 * 1024;
/** Values in a text message: each argument and each variable is one. */
const maxTextValues = 100_000;

/** Throws `SyntaxError` when a message is no JSON within the limits. */
function jsonOf({ bytes }: Message): unknown {
  if (bytes.length > maxTextBytes) throw new SyntaxError(`it has more than ${maxTextBytes} bytes`);
  return parseJson(bytes.toString('utf8'), { maxValues: maxTextValues });
}

/** The JSON of a text message; `invalid_argument` when it is none, or a larger one than any command needs. */
export function parseMessage<T>(message: Message, schema: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = jsonOf(message);
  } catch (error) {
    throw new CryoboxError('invalid_argument', `A text message must be JSON: ${messageOf(error)}`);
  }
  const result = schema.safeParse(json);
  if (!result.success) throw invalidArgument('message', result.error);
  return result.data;
}

/** Sends an error as a message: v1 clients show `message`, ours rebuild `error`. */
export async function sendError(outbox: Outbox, error: unknown): Promise<void> {
  const json = outbox.errors.json(error);
  await outbox
    .text({ type: 'error', message: json.message, code: json.code, error: json })
    .catch(() => undefined);
}

const held = Symbol('held');

/** One stream on its way to one client. */
interface Track {
  readonly tape: Tape;
  readonly channel: number;
  readonly from: number;
  /** Whether what was sent is forgotten at once. */
  readonly forget: boolean;
}

async function sendCut(outbox: Outbox, track: Track): Promise<void> {
  const { tape, channel, forget } = track;
  const cutter = new Utf8Cutter(maxOutputFrameBytes - 1);
  let at = track.from;
  let pending = tape.read(at);
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const next = cutter.holds
      ? await Promise.race([
          pending,
          new Promise<typeof held>((resolve) => {
            timer = setTimeout(() => resolve(held), holdMs);
          }),
        ])
      : await pending;
    clearTimeout(timer);
    const pieces = next === held || next === undefined ? cutter.flush() : cutter.push(next);
    for (const piece of pieces) await outbox.binary(piece, channel);
    if (next === undefined) return;
    if (next === held) continue;
    at += next.length;
    if (forget) tape.release(at);
    pending = tape.read(at);
  }
}

async function sendRaw(outbox: Outbox, { tape, channel, from, forget }: Track): Promise<void> {
  const most = maxOutputFrameBytes - 1;
  let at = from;
  for (let chunk = await tape.read(at); chunk; chunk = await tape.read(at)) {
    const piece = chunk.subarray(0, most);
    await outbox.binary(piece, channel);
    at += piece.length;
    if (forget) tape.release(at);
  }
}

async function takeControl(message: ClientMessage, { execution }: Reel): Promise<void> {
  if (message.type === 'stdin_eof') await execution.stdin?.end().catch(() => undefined);
  else if (message.type === 'resize') await execution.resize({ cols: message.cols, rows: message.rows });
  else if (message.type === 'signal') await execution.signal(message.sig);
}

/** Longest acknowledgement, with room for spaces. It is looked at while the client is read, not in its turn. */
const maxAckBytes = 256;

/** Takes acknowledgements as they come: they must not wait behind input that waits for output to be acknowledged. */
function takeAcknowledgements(inbox: Inbox, { stdout, stderr }: Reel): void {
  inbox.takeAtOnce((message) => {
    if (message.binary || message.bytes.length > maxAckBytes || !message.bytes.includes('"ack"'))
      return false;
    const ack = parseAck(message);
    if (!ack) return false;
    stdout.release(ack.stdout);
    stderr.release(ack.stderr);
    return true;
  });
}

function parseAck(message: Message): z.infer<typeof ackMessage> | undefined {
  try {
    return ackMessage.safeParse(jsonOf(message)).data;
  } catch {
    return undefined;
  }
}

async function takeInput(
  outbox: Outbox,
  inbox: Inbox,
  reel: Reel,
  options: ExecStreamOptions,
): Promise<void> {
  const { stdin } = reel.execution;
  let open = true;
  for (let message = await inbox.next(); message; message = await inbox.next()) {
    if (!message.binary) {
      await takeControl(parseMessage(message, clientMessage), reel);
      continue;
    }
    if (options.readOnly || !stdin) {
      throw new CryoboxError('invalid_state', 'This attach cannot write to stdin', {
        details: { attach: 'read_only_attach' },
      });
    }
    // A command that closed its stdin or ended loses what comes later, as in a pipe.
    reel.stdinBytes += message.bytes.length;
    if (open) {
      await stdin.write(message.bytes).catch(() => {
        open = false;
      });
    }
    if (options.ack && !outbox.isClosed) await outbox.text({ type: 'stdin_taken', bytes: reel.stdinBytes });
  }
}

function attachedMessage(
  { id, execution, stdinBytes }: Reel,
  from: { stdout: number; stderr: number },
): AttachedMessage {
  return {
    type: 'attached',
    execution_id: execution.id,
    box_id: execution.boxId,
    stdin: execution.stdin !== null,
    dropped_stdout: execution.droppedBytes.stdout,
    dropped_stderr: execution.droppedBytes.stderr,
    stream_id: id,
    stdout_at: from.stdout,
    stderr_at: from.stderr,
    stdin_at: stdinBytes,
  };
}

/** Sends one stream. Where it has a hole, that is told and the stream ends; the other one goes on. */
async function sendStream(
  outbox: Outbox,
  track: Track & { readonly name: 'stdout' | 'stderr' },
  utf8: boolean,
): Promise<void> {
  try {
    await (utf8 ? sendCut : sendRaw)(outbox, track);
  } catch (error) {
    if (!isCryoboxError(error, 'output_lost')) throw error;
    await outbox.text({ type: 'output_lost', stream: track.name, error: outbox.errors.json(error) });
  }
}

/**
 * The last message. A client that does not count what arrives takes an exit code for the end of a whole output: where
 * some is missing, it gets an error first, and no success.
 */
async function sendExit(outbox: Outbox, { execution }: Reel, options: ExecStreamOptions): Promise<void> {
  const exit = await execution.wait();
  const dropped = execution.droppedBytes;
  const json: JsonObject = {
    ...exitToJson(exit),
    dropped_stdout: dropped.stdout,
    dropped_stderr: dropped.stderr,
  };
  if (options.ack || dropped.stdout + dropped.stderr === 0) return await outbox.text(json);
  const error = outputLost(execution, exit);
  await sendError(outbox, error);
  await outbox.text({ ...json, exit_code: exitCodeOfCut(exit), error_message: error.message });
}

async function sendOutput(outbox: Outbox, reel: Reel, options: ExecStreamOptions): Promise<void> {
  const from = {
    stdout: Math.max(options.from?.stdout ?? 0, reel.stdout.start),
    stderr: Math.max(options.from?.stderr ?? 0, reel.stderr.start),
  };
  reel.stdout.release(from.stdout);
  reel.stderr.release(from.stderr);
  const forget = !options.ack;
  await outbox.text({ ...attachedMessage(reel, from) });
  await Promise.all([
    sendStream(
      outbox,
      { name: 'stdout', tape: reel.stdout, channel: channels.stdout, from: from.stdout, forget },
      options.utf8,
    ),
    sendStream(
      outbox,
      { name: 'stderr', tape: reel.stderr, channel: channels.stderr, from: from.stderr, forget },
      options.utf8,
    ),
  ]);
  await sendExit(outbox, reel, options);
}

/** Codes of a close the client meant (RFC 6455, section 7.4.1): all was said, and going away. */
const inOrder = new Set([1000, 1001]);

/**
 * Carries a command's streams over a WebSocket until it ends or the client leaves (v1 contract, section 1.6): output
 * in binary frames, input back, and the exit as the last message, after all output. The reel stays the caller's.
 */
export async function streamExecution(
  outbox: Outbox,
  inbox: Inbox,
  reel: Reel,
  options: ExecStreamOptions,
): Promise<StreamEnd> {
  let refusal: unknown;
  if (options.ack) {
    takeAcknowledgements(inbox, reel);
    // Such a client sends again what was not taken.
    const drop = (): void => inbox.clear();
    outbox.closed.then(drop, drop);
  }
  const input = takeInput(outbox, inbox, reel, options).catch((error: unknown) => {
    refusal = error;
  });
  const output = sendOutput(outbox, reel, options).then(() => 'ended' as const);
  try {
    const end = await Promise.race([
      output,
      outbox.closed.then((code) => (inOrder.has(code) ? ('left' as const) : ('lost' as const))),
      input.then(() => (refusal === undefined ? output : Promise.reject(refusal))),
    ]);
    if (end === 'ended') outbox.close(1000);
    return end;
  } catch (error) {
    if (outbox.isClosed) return 'lost';
    await sendError(outbox, error);
    outbox.close(error === refusal && isCryoboxError(error) && error.fault === 'user' ? 1008 : 1011);
    return 'left';
  } finally {
    output.catch(() => undefined);
  }
}

/** Time for the close handshake before the connection is cut. */
const closeMs = 1000;

/** Cuts a socket that does not close by itself. */
export function closeSoon(socket: WebSocket): void {
  const timer = setTimeout(() => socket.terminate(), closeMs);
  socket.once('close', () => clearTimeout(timer));
}
