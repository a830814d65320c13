import { once } from 'node:events';
import type { PseudoTtyInfo, ServerChannel, Session } from 'ssh2';
import type { Box, Execution, ExitStatus, TerminalSize } from '../api/index.js';
import { signalName } from '../base/signal-name.js';
import { within } from '../base/within.js';
import { isCryoboxError, messageOf } from '../errors.js';
import type { Account } from './account.js';
import { ChannelWriter, chunksOf } from './channel-writer.js';
import { sshLimits } from './limits.js';

/** What a session works with. */
export interface SessionOptions {
  readonly box: Box;
  readonly account: Account;
  /** Aborted when the connection has ended. */
  readonly ended: AbortSignal;
}

/** Exit codes of shells, and of a server of SSH that could not do what it was asked for. */
const notFound = 127;
const failed = 255;

/** A command or shell of a client: an execution of the box. */
export class CommandSession {
  readonly #options: SessionOptions;
  readonly #env = new Map<string, string>();
  readonly #gone: AbortSignal;
  #variableBytes = 0;
  #terminal: PseudoTtyInfo | undefined;
  #size: TerminalSize | undefined;
  #execution: Execution | undefined;

  /** `gone`: aborted when the session is closed. */
  constructor(session: Session, options: SessionOptions, gone: AbortSignal) {
    this.#options = options;
    this.#gone = gone;
    session.on('env', (accept, reject, { key, val }) => {
      if (this.#addVariable(key, String(val))) accept?.();
      else reject?.();
    });
    session.on('pty', (accept, _reject, info) => {
      this.#terminal = info;
      this.#size = sizeOf(info);
      accept?.();
    });
    session.on('window-change', (accept, _reject, info) => {
      this.#size = sizeOf(info);
      this.#execution?.resize(this.#size).catch(() => undefined);
      accept?.();
    });
    session.on('signal', (accept, _reject, { name }) => {
      this.#execution?.signal(`SIG${name}`).catch(() => undefined);
      accept?.();
    });
  }

  /** Runs a line in the account's shell, or the shell itself, until it ends or the client is gone. */
  async run(channel: ServerChannel, line: string | undefined): Promise<void> {
    const writer = new ChannelWriter(channel, this.#gone);
    channel.on('error', () => undefined);
    try {
      this.#execution = await this.#start(line);
    } catch (error) {
      await writer.write('stderr', Buffer.from(`cryobox: ${messageOf(error)}\n`));
      channel.exit(isCryoboxError(error, 'command_not_found') ? notFound : failed);
      channel.end();
      return;
    }
    const execution = this.#execution;
    passInput(channel, execution);
    const status = execution.wait();
    const all = Promise.all([
      status,
      writer.pipe('stdout', execution.stdout),
      writer.pipe('stderr', execution.stderr),
    ]);
    const closed = this.#gone.aborted ? Promise.resolve() : once(this.#gone, 'abort');
    try {
      const [how] = (await Promise.race([all, closed.then(() => [undefined])])) as [ExitStatus | undefined];
      if (how) sayEnd(channel, how);
      else await hangUp(execution, status);
    } catch (error) {
      await writer.write('stderr', Buffer.from(`cryobox: ${messageOf(error)}\n`));
      // It goes on without a reader when only its output is lost.
      if (!isCryoboxError(error, 'output_lost')) await execution.kill().catch(() => undefined);
      channel.exit(failed);
    } finally {
      all.catch(() => undefined);
      channel.end();
    }
  }

  async #start(line: string | undefined): Promise<Execution> {
    const { box, account, ended } = this.#options;
    const { home, name, shell } = account;
    const terminal = this.#terminal;
    const own = { HOME: home, USER: name, LOGNAME: name, SHELL: shell };
    const start = (cwd: string): Promise<Execution> =>
      box.startExec(line === undefined ? [shell, '-l'] : [shell, '-c', line], {
        env: {
          ...Object.fromEntries(this.#env),
          ...(terminal?.term ? { TERM: terminal.term } : {}),
          ...own,
        },
        cwd,
        user: account.user,
        tty: terminal !== undefined && (this.#size ?? true),
        stdin: true,
        signal: ended,
      });
    try {
      return await start(home);
    } catch (error) {
      if (!isCryoboxError(error, 'cwd_not_found')) throw error;
      return await start('/');
    }
  }

  #addVariable(name: string, value: string): boolean {
    const bytes = this.#variableBytes + name.length + Buffer.byteLength(value);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes('\0')) return false;
    if (this.#env.size >= sshLimits.variables || bytes > sshLimits.variableBytes) return false;
    this.#variableBytes = bytes;
    this.#env.set(name, value);
    return true;
  }
}

/** A terminal of no size is one whose size the client does not know. */
function sizeOf({ cols, rows }: { readonly cols: number; readonly rows: number }): TerminalSize {
  const bounded = (given: number, otherwise: number): number => Math.min(given || otherwise, 0xffff);
  return { cols: bounded(cols, 80), rows: bounded(rows, 24) };
}

/** Passes the client's input on, and its end. */
function passInput(channel: ServerChannel, { stdin }: Execution): void {
  const pass = async (): Promise<void> => {
    for await (const chunk of chunksOf(channel)) await stdin?.write(chunk);
    await stdin?.end();
  };
  // A command that closed its stdin, or has ended, takes no more; the channel is read on, so that its end is seen.
  pass().catch(() => channel.resume());
}

function sayEnd(channel: ServerChannel, { exitCode, signal }: ExitStatus): void {
  if (signal === null) channel.exit(exitCode ?? 0);
  else channel.exit((signalName(signal) ?? `SIG${signal}`).replace(/^SIG/, ''), false, '');
}

/** Ends a command whose client is gone, as a terminal that is closed does; one that does not mind is killed. */
async function hangUp(execution: Execution, status: Promise<ExitStatus>): Promise<void> {
  let isOver = false;
  const over = status.then(
    () => {
      isOver = true;
    },
    () => undefined,
  );
  await execution.signal('SIGHUP').catch(() => undefined);
  await within(over, sshLimits.hangUpMs);
  if (!isOver) await execution.kill().catch(() => undefined);
}
