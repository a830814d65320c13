import type { ExecOptions, TerminalSize } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxConfig } from '../boxes/config.js';
import { checkEnv } from '../boxes/validate.js';

/** A command as the agent is asked to run it: everything decided. */
export interface ExecRequest {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
  readonly timeoutMs?: number;
  readonly tty: TerminalSize | null;
  readonly addCapabilities: readonly string[];
  readonly dropCapabilities: readonly string[];
}

/** Kernel limit of one argument of a new process (MAX_ARG_STRLEN, execve(2)). */
const maxArgumentBytes = 128 * 1024;
/** Arguments and environment travel in one frame's header, which holds 64 KiB with its other fields. */
const maxRequestBytes = 56 * 1024;
/** A year: longer is a mistake of units. */
const maxTimeoutMs = 31_536_000_000;
const defaultTerminal: TerminalSize = { cols: 80, rows: 24 };
const maxTerminalSide = 65_535;

const invalid = (message: string): CryoboxError => new CryoboxError('invalid_argument', message);

/** Puts a command together from what the box and the call say. Throws `invalid_argument`. */
export function execRequest(
  argv: readonly string[],
  box: BoxConfig,
  options: Pick<ExecOptions, 'env' | 'cwd' | 'user' | 'timeoutMs' | 'tty'>,
): ExecRequest {
  checkArguments(argv);
  checkEnv(options.env);
  const cwd = options.cwd ?? box.workingDir;
  if (!cwd.startsWith('/')) throw invalid(`cwd must be an absolute path, got ${JSON.stringify(cwd)}`);
  const { timeoutMs } = options;
  if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= maxTimeoutMs)) {
    throw invalid(`timeoutMs must be from 1 to ${maxTimeoutMs}, got ${timeoutMs}`);
  }
  const request = {
    argv,
    env: { ...box.env, ...options.env },
    cwd,
    user: options.user ?? box.user,
    timeoutMs,
    tty: terminal(options.tty),
    addCapabilities: box.capabilities.add ?? [],
    dropCapabilities: box.capabilities.drop ?? [],
  };
  const bytes = Buffer.byteLength(JSON.stringify(request));
  if (bytes > maxRequestBytes) {
    throw new CryoboxError(
      'payload_too_large',
      `arguments and environment have ${bytes} bytes; at most ${maxRequestBytes} are passed on`,
      {
        hint: 'Write what is large to a file or to stdin.',
      },
    );
  }
  return request;
}

function checkArguments(argv: readonly string[]): void {
  if (!Array.isArray(argv) || argv.length === 0) throw invalid('the command is empty');
  for (const argument of argv) {
    if (typeof argument !== 'string' || argument.includes('\0'))
      throw invalid('arguments must be text without NUL');
    if (Buffer.byteLength(argument) > maxArgumentBytes)
      throw invalid(`an argument is over ${maxArgumentBytes} bytes`);
  }
  if (argv[0] === '') throw invalid('the command is empty');
}

function terminal(tty: ExecOptions['tty']): TerminalSize | null {
  if (tty === undefined || tty === false) return null;
  const size = tty === true ? defaultTerminal : tty;
  checkTerminal(size);
  return size;
}

/** Throws `invalid_argument` unless both sides are 1 to 65535. */
export function checkTerminal({ cols, rows }: TerminalSize): void {
  const fits = (side: number): boolean => Number.isInteger(side) && side >= 1 && side <= maxTerminalSide;
  if (fits(cols) && fits(rows)) return;
  throw invalid(`cols and rows must be whole numbers from 1 to ${maxTerminalSide}, got ${cols} and ${rows}`);
}
