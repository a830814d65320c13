import type { WebSocket } from 'ws';
import { z } from 'zod';
import type { ByteSource, Execution } from '../api/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { errorToJson } from '../wire/error.js';
import {
  type AttachedMessage,
  type ClientMessage,
  channels,
  exitToJson,
  maxOutputFrameBytes,
} from '../wire/execution.js';
import { invalidArgument } from './errors.js';
import type { Inbox, Message } from './inbox.js';
import type { Outbox } from './outbox.js';
import { Utf8Cutter } from './utf8.js';

/** How a command's streams are carried. */
export interface ExecStreamOptions {
  /** Cuts output at borders of UTF-8 characters, which v1 clients need. */
  readonly utf8: boolean;
  /** Whether the client may write to stdin and signal. */
  readonly readOnly: boolean;
}

/**
 * How long the beginning of a character is held back for its rest. A program that writes half a character and waits
 * for an answer must not wait for ever.
 */
const holdMs = 50;

const clientMessage: z.ZodType<ClientMessage> = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('stdin_eof') }),
  z.strictObject({
    type: z.literal('resize'),
    cols: z.int().min(1).max(65_535),
    rows: z.int().min(1).max(65_535),
  }),
  z.strictObject({ type: z.literal('signal'), sig: z.int().min(1).max(64) }),
]);

/** The JSON of a text message; `invalid_argument` when it is none. */
export function parseMessage<T>(message: Message, schema: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = JSON.parse(message.bytes.toString('utf8'));
  } catch (error) {
    throw new CryoboxError('invalid_argument', `A text message must be JSON: ${messageOf(error)}`);
  }
  const result = schema.safeParse(json);
  if (!result.success) throw invalidArgument('message', result.error);
  return result.data;
}

/** Sends an error as a message: v1 clients show `message`, ours rebuild `error`. */
export async function sendError(outbox: Outbox, error: unknown): Promise<void> {
  const json = errorToJson(error);
  await outbox
    .text({ type: 'error', message: json.message, code: json.code, error: json })
    .catch(() => undefined);
}

const held = Symbol('held');

async function sendCut(outbox: Outbox, channel: number, source: ByteSource): Promise<void> {
  const cutter = new Utf8Cutter(maxOutputFrameBytes - 1);
  const iterator = source[Symbol.asyncIterator]();
  let pending = iterator.next();
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
    const ended = next !== held && next.done === true;
    const pieces = next === held || next.done ? cutter.flush() : cutter.push(next.value);
    for (const piece of pieces) await outbox.binary(piece, channel);
    if (ended) return;
    if (next !== held) pending = iterator.next();
  }
}

async function sendRaw(outbox: Outbox, channel: number, source: ByteSource): Promise<void> {
  const most = maxOutputFrameBytes - 1;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; at += most) {
      await outbox.binary(chunk.subarray(at, at + most), channel);
    }
  }
}

async function takeInput(inbox: Inbox, execution: Execution, readOnly: boolean): Promise<void> {
  let open = true;
  for (let message = await inbox.next(); message; message = await inbox.next()) {
    if (message.binary) {
      if (readOnly || !execution.stdin) {
        throw new CryoboxError('invalid_state', 'This attach cannot write to stdin', {
          details: { attach: 'read_only_attach' },
        });
      }
      // A command that closed its stdin or ended loses what comes later, as in a pipe.
      if (open) await execution.stdin.write(message.bytes).catch(() => (open = false));
      continue;
    }
    const control = parseMessage(message, clientMessage);
    if (control.type === 'stdin_eof') await execution.stdin?.end().catch(() => undefined);
    else if (control.type === 'resize') await execution.resize({ cols: control.cols, rows: control.rows });
    else await execution.signal(control.sig);
  }
}

function attachedMessage(execution: Execution): AttachedMessage {
  return {
    type: 'attached',
    execution_id: execution.id,
    box_id: execution.boxId,
    stdin: execution.stdin !== null,
    dropped_stdout: execution.droppedBytes.stdout,
    dropped_stderr: execution.droppedBytes.stderr,
  };
}

/**
 * Carries a command's streams over a WebSocket until it ends or the client leaves (v1 contract, section 1.6): output
 * in binary frames, input back, and the exit as the last message, after all output. Lets go of the execution in any
 * case. Returns whether the command ended.
 */
export async function streamExecution(
  outbox: Outbox,
  inbox: Inbox,
  execution: Execution,
  options: ExecStreamOptions,
): Promise<boolean> {
  const send = options.utf8 ? sendCut : sendRaw;
  const output = async (): Promise<void> => {
    await outbox.text({ ...attachedMessage(execution) });
    await Promise.all([
      send(outbox, channels.stdout, execution.stdout),
      send(outbox, channels.stderr, execution.stderr),
    ]);
    await outbox.text(exitToJson(await execution.wait()));
  };
  let refusal: unknown;
  const input = takeInput(inbox, execution, options.readOnly).catch((error: unknown) => {
    refusal = error;
  });
  const outputDone = output().then(() => true);
  try {
    const ended = await Promise.race([
      outputDone,
      outbox.closed.then(() => false),
      input.then(() => (refusal === undefined ? outputDone : Promise.reject(refusal))),
    ]);
    if (ended) outbox.close(1000);
    return ended;
  } catch (error) {
    await sendError(outbox, error);
    outbox.close(error === refusal && isCryoboxError(error) && error.fault === 'user' ? 1008 : 1011);
    return false;
  } finally {
    outputDone.catch(() => undefined);
    await execution.detach().catch(() => undefined);
  }
}

/** Time for the close handshake before the connection is cut. */
const closeMs = 1000;

/** Cuts a socket that does not close by itself. */
export function closeSoon(socket: WebSocket): void {
  const timer = setTimeout(() => socket.terminate(), closeMs);
  socket.once('close', () => clearTimeout(timer));
}
