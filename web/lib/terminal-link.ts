/** A command on a terminal, kept over lost connections (docs/api.md, "Streams of a command"). */
import { askJson, boxPath, openSocket } from './api.ts';
import { ApiError, errorFrom } from './errors.ts';

/** What happens on the terminal. */
export interface TerminalEvents {
  /** Which execution it is; comes again after each reconnect. */
  attached(executionId: string): void;
  /** Output; `taken` is to be called when it was shown. */
  output(bytes: Uint8Array, taken: () => void): void;
  /** The connection is gone, and is sought again. */
  lost(): void;
  ended(exitCode: number): void;
  failed(error: unknown): void;
}

interface Size {
  readonly cols: number;
  readonly rows: number;
}

const retryMs = 1000;
/** Well below what the server keeps of what was not acknowledged. */
const ackEveryBytes = 16 * 1024;
/** A shell of the box: bash where there is one. */
const shell = ['sh', '-c', 'if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh'];

/** One terminal of a box. */
export class TerminalLink {
  readonly #boxId: string;
  readonly #events: TerminalEvents;
  #socket: WebSocket | undefined;
  #executionId: string | undefined;
  #size: Size;
  /** Which server counts what was typed, and what it has not taken yet. */
  #streamId = '';
  #sentAt = 0;
  #pending: Uint8Array[] = [];
  /** Offsets of output: what has come, what was shown, what the server knows of. */
  #arrived = { 1: 0, 2: 0 };
  #shown = { 1: 0, 2: 0 };
  #acknowledged = 0;
  #attached = false;
  #over = false;

  constructor(boxId: string, size: Size, events: TerminalEvents, executionId?: string) {
    this.#boxId = boxId;
    this.#size = size;
    this.#events = events;
    this.#executionId = executionId;
    this.#connect();
  }

  /** Types into the terminal. */
  write(text: string): void {
    if (this.#over) return;
    const bytes = new TextEncoder().encode(text);
    this.#pending.push(bytes);
    if (this.#attached) this.#socket?.send(bytes.slice());
  }

  /** Tells the program of another size. */
  resize(size: Size): void {
    this.#size = size;
    if (this.#attached) this.#say({ type: 'resize', ...size });
  }

  /** Lets go of the command, which goes on. */
  close(): void {
    this.#over = true;
    this.#socket?.close(1000);
  }

  #say(message: unknown): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #connect(): void {
    const { 1: stdout, 2: stderr } = this.#shown;
    const query = `?ack=true&utf8=false&stdout_at=${stdout}&stderr_at=${stderr}`;
    const id = this.#executionId;
    const rest = id === undefined ? '/exec' : `/executions/${encodeURIComponent(id)}/attach${query}`;
    const socket = openSocket(boxPath(this.#boxId, rest));
    let refusal: ApiError | undefined;
    this.#socket = socket;
    this.#arrived = { ...this.#shown };
    socket.onopen = () => {
      if (id !== undefined) return;
      this.#say({
        type: 'exec',
        argv: shell,
        env: { TERM: 'xterm-256color' },
        tty: this.#size,
        stdin: true,
        ack: true,
      });
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (typeof data !== 'string') return this.#output(new Uint8Array(data));
      const message = JSON.parse(data) as Record<string, unknown>;
      if (message['type'] === 'attached') this.#onAttached(message);
      else if (message['type'] === 'stdin_taken') this.#taken(Number(message['bytes']));
      else if (message['type'] === 'error') refusal = errorFrom(message, 500);
      else if (message['type'] === 'exit') {
        this.#over = true;
        this.#events.ended(Number(message['exit_code']));
      }
    };
    socket.onclose = () => {
      this.#attached = false;
      if (this.#over) return;
      if (refusal) this.#fail(refusal);
      else this.#comeBack();
    };
  }

  #onAttached(message: Record<string, unknown>): void {
    this.#executionId = String(message['execution_id']);
    const [stdout, stderr] = [Number(message['stdout_at']), Number(message['stderr_at'])];
    this.#arrived = { 1: stdout, 2: stderr };
    this.#shown = { ...this.#arrived };
    const streamId = String(message['stream_id']);
    const at = Number(message['stdin_at']);
    // A server that was restarted counts anew, and what it did not take may have been taken before: it is not sent twice.
    if (this.#streamId !== '' && this.#streamId !== streamId) this.#pending = [];
    else this.#taken(at);
    this.#streamId = streamId;
    this.#sentAt = at;
    this.#attached = true;
    for (const bytes of this.#pending) this.#socket?.send(bytes.slice());
    this.#say({ type: 'resize', ...this.#size });
    this.#events.attached(this.#executionId);
  }

  /** Forgets what was typed up to an offset. */
  #taken(upTo: number): void {
    let left = upTo - this.#sentAt;
    this.#sentAt = upTo;
    while (left > 0) {
      const first = this.#pending.shift();
      if (!first) return;
      if (first.length > left) this.#pending.unshift(first.subarray(left));
      left -= first.length;
    }
  }

  #output(frame: Uint8Array): void {
    const channel = frame[0] === 2 ? 2 : 1;
    const bytes = frame.subarray(1);
    const upTo = this.#arrived[channel] + bytes.length;
    this.#arrived[channel] = upTo;
    this.#events.output(bytes, () => {
      this.#shown[channel] = Math.max(this.#shown[channel], upTo);
      const { 1: stdout, 2: stderr } = this.#shown;
      if (!this.#attached || stdout + stderr - this.#acknowledged < ackEveryBytes) return;
      this.#acknowledged = stdout + stderr;
      this.#say({ type: 'ack', stdout, stderr });
    });
  }

  #fail(error: unknown): void {
    this.#over = true;
    this.#events.failed(error);
  }

  /** A browser does not say why a socket did not open: the API does. */
  #comeBack(): void {
    this.#events.lost();
    setTimeout(() => {
      if (this.#over) return;
      const rest =
        this.#executionId === undefined ? '' : `/executions/${encodeURIComponent(this.#executionId)}`;
      askJson<{ status: string; exit_code?: number | null }>(boxPath(this.#boxId, rest)).then(
        ({ status, exit_code: exitCode }) => {
          if (this.#over) return;
          if (rest !== '' && status !== 'running') {
            this.#over = true;
            this.#events.ended(exitCode ?? -1);
          } else this.#connect();
        },
        (error: unknown) => {
          if (error instanceof ApiError && error.status < 500 && error.status !== 429) this.#fail(error);
          else if (!this.#over) this.#comeBack();
        },
      );
    }, retryMs);
  }
}
