import type {
  CallOptions,
  Execution,
  ExitStatus,
  Output,
  StdinWriter,
  TerminalSize,
} from '../../api/index.js';
import { abortable } from '../../base/abort.js';
import { outputLost } from '../../base/lost-output.js';
import { mergedOutput, OutputStream } from '../../base/output-stream.js';
import { CryoboxError } from '../../errors.js';
import type { GuestExecution } from '../../guest/index.js';
import type { MachinesContext } from '../machines/context.js';
import { leaveError } from '../machines/leave.js';
import type { LiveBox } from '../machines/live.js';
import { checkTerminal } from '../record/request.js';
import { SteadyStdin } from './stdin.js';

const channels = ['stdout', 'stderr'] as const;
type Channel = (typeof channels)[number];

/** Where a command runs now, and the streams to it. */
interface Joined {
  readonly live: LiveBox;
  readonly guest: GuestExecution;
}

/**
 * A command in a box of the engine, with its streams attached. A pause of the box freezes the command, and this with it;
 * after the resume it goes on where it was.
 */
export class EngineExecution implements Execution {
  readonly id: string;
  readonly boxId: string;
  readonly stdin: StdinWriter | null;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly all: Output;
  readonly #ctx: MachinesContext;
  readonly #exit: Promise<ExitStatus>;
  #settle: { resolve(exit: ExitStatus): void; reject(error: unknown): void };
  #joined: Joined;
  /** The way back into the box after a pause, while that is under way. */
  #rejoining: Promise<Joined> | undefined;
  readonly #released = new AbortController();
  #isEnded = false;
  /** Why the command cannot be followed any more. */
  #failure: { readonly error: unknown } | undefined;
  #killsWhenBack = false;
  /** Bytes given to the reader, and those among them that were lost, from the command's first. */
  readonly #at = { stdout: 0, stderr: 0 };
  readonly #dropped = { stdout: 0, stderr: 0 };
  /** Streams with a hole after what their reader has got. */
  readonly #holes = new Set<Channel>();
  /** Streams whose reader has gone. */
  readonly #unread = new Set<Channel>();

  constructor(ctx: MachinesContext, live: LiveBox, guest: GuestExecution) {
    this.#ctx = ctx;
    this.id = guest.id;
    this.boxId = live.boxId;
    this.#settle = { resolve: () => undefined, reject: () => undefined };
    this.#exit = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever does not wait for the end need not hear that it cannot be seen.
    this.#exit.catch(() => undefined);
    this.stdout = new OutputStream(this.#output('stdout'));
    this.stderr = new OutputStream(this.#output('stderr'));
    this.all = mergedOutput([this.stdout, this.stderr]);
    this.stdin = guest.stdin ? new SteadyStdin(guest.stdin, (error) => this.#untilBack(error)) : null;
    this.#joined = { live, guest };
    this.#follow(this.#joined);
    // What was dropped before the first attach is no hole in what it gives.
    this.#holes.clear();
  }

  get droppedBytes(): { readonly stdout: number; readonly stderr: number } {
    return { ...this.#dropped };
  }

  async wait(options: CallOptions = {}): Promise<ExitStatus> {
    return await abortable(this.#exit, options.signal);
  }

  async signal(signal: number | string): Promise<void> {
    await this.#joined.guest.signal(signal);
  }

  async kill(): Promise<void> {
    if (this.#isEnded) return;
    const { live, guest } = this.#joined;
    try {
      await guest.kill();
    } catch (error) {
      if (this.#isEnded) return;
      if (!this.#comesBack(live)) throw error;
      // It stands still in the memory of the box, and is killed before it goes on.
      this.#killsWhenBack = true;
    }
  }

  async resize(size: TerminalSize): Promise<void> {
    checkTerminal(size);
    await this.#joined.guest.resize(size);
  }

  async detach(): Promise<void> {
    if (this.#isEnded || this.#released.signal.aborted) return;
    const { live, guest } = this.#joined;
    try {
      if (live.leaves === undefined) await guest.detach();
    } catch (error) {
      // Its machine has left meanwhile: there is nothing to let go of.
      if (live.leaves === undefined) throw error;
    }
    if (this.#killsWhenBack) return;
    this.#released.abort(new CryoboxError('cancelled', `execution ${this.id} was detached`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }

  /** Watches a command until its end, or until its machine leaves; the box counts as used meanwhile. */
  #follow({ live, guest }: Joined): void {
    for (const channel of channels) {
      this.#dropped[channel] += guest.attached[`${channel}Dropped`];
      this.#at[channel] += guest.attached[`${channel}Dropped`];
      if (guest.attached[`${channel}Dropped`] > 0) this.#holes.add(channel);
      if (this.#unread.has(channel)) guest[channel]?.destroy();
    }
    const use = this.#ctx.activity.use(this.boxId);
    const leaveGate = live.gate.enter();
    const over = (): void => {
      leaveGate();
      use[Symbol.dispose]();
    };
    guest.exit.then(
      ({ code, signal, timedOut, durationMs }) => {
        over();
        this.#isEnded = true;
        this.#settle.resolve({ exitCode: code, signal, timedOut, durationMs });
      },
      (error: unknown) => {
        over();
        if (!this.#comesBack(live)) return this.#fail(error);
        this.#rejoin(live).catch((reason: unknown) => this.#fail(reason));
      },
    );
  }

  /** Whether a command whose machine has left goes on with the next one of its box. */
  #comesBack(live: LiveBox): boolean {
    return live.leaves === 'paused' && !this.#failure && !this.#released.signal.aborted;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#settle.reject(error);
  }

  #rejoin(from: LiveBox): Promise<Joined> {
    if (this.#joined.live !== from) return Promise.resolve(this.#joined);
    if (this.#failure) return Promise.reject(this.#failure.error);
    this.#rejoining ??= this.#attachAgain(from).finally(() => {
      this.#rejoining = undefined;
    });
    return this.#rejoining;
  }

  async #attachAgain(from: LiveBox): Promise<Joined> {
    const live = await this.#ctx.live.next(this.boxId, this.#released.signal);
    if (live.run !== from.run) throw leaveError(this.boxId, 'discarded');
    let guest: GuestExecution;
    try {
      const offsets = { stdoutFrom: this.#at.stdout, stderrFrom: this.#at.stderr };
      guest = await live.agent.executions.attach(this.id, offsets);
    } catch (error) {
      if (this.#comesBack(live)) return await this.#attachAgain(live);
      throw error;
    }
    this.#joined = { live, guest };
    this.#follow(this.#joined);
    if (this.#killsWhenBack) await guest.kill();
    else if (this.stdin instanceof SteadyStdin && guest.stdin) {
      // Not waited for: the command may take no input before its output is read.
      this.stdin.goOn(guest.stdin).catch(() => undefined);
    }
    return this.#joined;
  }

  /** Settles when the command goes on after a pause; throws `error` when it is not that which broke its streams. */
  async #untilBack(error: unknown): Promise<void> {
    const { live } = this.#joined;
    if (this.#isEnded || !this.#comesBack(live)) throw error;
    await this.#rejoin(live);
  }

  async *#output(channel: Channel): AsyncGenerator<Uint8Array> {
    let isRead = false;
    try {
      for (;;) {
        const { live, guest } = this.#joined;
        if (this.#holes.has(channel)) {
          // The rest is not wanted, and must not make the command wait.
          guest[channel]?.destroy();
          throw outputLost(this);
        }
        try {
          for await (const chunk of guest[channel] ?? []) {
            this.#at[channel] += (chunk as Uint8Array).length;
            yield chunk as Uint8Array;
          }
          isRead = true;
          return;
        } catch (error) {
          if (this.#joined.live !== live) continue;
          if (this.#isEnded || live.leaves !== 'paused') throw error;
          await this.#rejoin(live);
        }
      }
    } finally {
      if (!isRead) this.#unread.add(channel);
    }
  }
}
