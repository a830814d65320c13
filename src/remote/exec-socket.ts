import type { WebSocket } from 'ws';
import type { ExitStatus } from '../api/index.js';
import { CryoboxError, messageOf } from '../errors.js';
import { errorFromJson } from '../wire/error.js';
import { type AttachedMessage, channels, exitFromJson } from '../wire/execution.js';
import { asObject, type JsonObject, number, text, textOrNull } from '../wire/json.js';

/** What happens on the socket of a command. */
export interface ExecEvents {
  /** Comes before everything else. */
  attached(facts: AttachedMessage): void;
  output(channel: 'stdout' | 'stderr', bytes: Uint8Array): void;
  /** The server has taken stdin up to this offset. */
  stdinTaken(bytes: number): void;
  /** The server could not get all of a stream; the command, and the other stream, go on. */
  outputLost(channel: 'stdout' | 'stderr', error: CryoboxError): void;
  exit(status: ExitStatus): void;
  /** The server ended the streams with an error. */
  refused(error: Error): void;
  /** The connection is gone without a word; never after `exit` or `refused`. */
  lost(): void;
}

function attachedFrom(json: JsonObject): AttachedMessage {
  return {
    type: 'attached',
    execution_id: text(json, 'execution_id'),
    box_id: text(json, 'box_id'),
    stdin: json['stdin'] === true,
    dropped_stdout: number(json, 'dropped_stdout', 0),
    dropped_stderr: number(json, 'dropped_stderr', 0),
    stream_id: textOrNull(json, 'stream_id') ?? '',
    stdout_at: number(json, 'stdout_at', 0),
    stderr_at: number(json, 'stderr_at', 0),
    stdin_at: number(json, 'stdin_at', 0),
  };
}

/**
 * Listens to the socket of a command (v1 contract, section 1.6). Resolves with the first message, which says which
 * execution it is; rejects when the server refuses.
 */
export function listenToExec(socket: WebSocket, events: ExecEvents): Promise<AttachedMessage> {
  return new Promise((resolve, reject) => {
    let attached = false;
    let ended = false;
    let refusal: Error | undefined;
    const onText = (json: JsonObject): void => {
      if (json['type'] === 'attached') {
        attached = true;
        const facts = attachedFrom(json);
        events.attached(facts);
        resolve(facts);
      } else if (json['type'] === 'stdin_taken') {
        events.stdinTaken(number(json, 'bytes'));
      } else if (json['type'] === 'output_lost') {
        const channel = json['stream'] === 'stderr' ? 'stderr' : 'stdout';
        events.outputLost(channel, errorFromJson(asObject(json['error'], 'error'), 500));
      } else if (json['type'] === 'exit') {
        ended = true;
        events.exit(exitFromJson(json));
      } else if (json['type'] === 'error') {
        refusal = errorFromJson(asObject(json['error'] ?? json, 'error'), 500);
      }
    };
    socket.on('message', (data: Buffer, binary: boolean) => {
      try {
        if (!binary) onText(asObject(JSON.parse(data.toString('utf8')), 'message'));
        else if (data[0] === channels.stdout) events.output('stdout', data.subarray(1));
        else if (data[0] === channels.stderr) events.output('stderr', data.subarray(1));
      } catch (error) {
        refusal = new CryoboxError(
          'upstream_unavailable',
          `The server sent a bad message: ${messageOf(error)}`,
        );
        socket.terminate();
      }
    });
    socket.once('close', () => {
      if (!attached) reject(refusal ?? lostConnection());
      else if (ended) return;
      else if (refusal) events.refused(refusal);
      else events.lost();
    });
  });
}

/** The error for a connection that ended before the command did. */
export function lostConnection(): CryoboxError {
  return new CryoboxError('upstream_unavailable', 'The connection was lost while a command ran');
}
