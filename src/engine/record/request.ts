import type { ExecOptions, TerminalSize } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxConfig } from './config.js';
import { trustEnv } from './secrets.js';
import { checkEnv } from './validate.js';

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
/** Kernel limit of arguments and environment together: a quarter of the stack's 8 MiB (execve(2)). */
const maxTogetherBytes = 2 * 1024 * 1024;
/** A pointer beside each of them; and what is added to the environment and the path of the program. */
const pointerBytes = 8;
const addedBytes = 8 * 1024;
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
  for (const [name, value] of Object.entries(options.env ?? {})) {
    const text = `${name}=${value}`;
    if (Buffer.byteLength(text) >= maxArgumentBytes) throw tooLong(`env.${name}`, text);
  }
  const cwd = options.cwd ?? box.workingDir;
  if (!cwd.startsWith('/')) throw invalid(`cwd must be an absolute path, got ${JSON.stringify(cwd)}`);
  const { timeoutMs } = options;
  if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= maxTimeoutMs)) {
    throw invalid(`timeoutMs must be from 1 to ${maxTimeoutMs}, got ${timeoutMs}`);
  }
  const request = {
    argv,
    env: { ...boxEnv(box), ...options.env },
    cwd,
    user: options.user ?? box.user,
    timeoutMs,
    tty: terminal(options.tty),
    addCapabilities: box.capabilities.add ?? [],
    dropCapabilities: box.capabilities.drop ?? [],
  };
  checkTogether(request);
  return request;
}

/** The environment of a box, with placeholders of its secrets. */
function boxEnv({ env, secrets }: BoxConfig): Readonly<Record<string, string>> {
  if (!secrets) return env;
  const placeholders = Object.entries(secrets).map(([name, { placeholder }]) => [name, placeholder]);
  return { ...trustEnv, ...env, ...Object.fromEntries(placeholders) };
}

function checkTogether({ argv, env }: Pick<ExecRequest, 'argv' | 'env'>): void {
  const strings = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
  const bytes = strings.reduce((sum, text) => sum + Buffer.byteLength(text) + 1 + pointerBytes, 0);
  if (bytes <= maxTogetherBytes - addedBytes) return;
  throw new CryoboxError(
    'payload_too_large',
    `arguments and environment take ${bytes} bytes of the ${maxTogetherBytes} that the kernel has for them`,
    { hint: 'Write what is large to a file or to stdin.' },
  );
}

function checkArguments(argv: readonly string[]): void {
  if (!Array.isArray(argv) || argv.length === 0) throw invalid('the command is empty');
  for (const argument of argv) {
    if (typeof argument !== 'string' || argument.includes('\0'))
      throw invalid('arguments must be text without NUL');
    if (Buffer.byteLength(argument) >= maxArgumentBytes) throw tooLong('an argument', argument);
  }
  if (argv[0] === '') throw invalid('the command is empty');
}

function tooLong(what: string, text: string): CryoboxError {
  return new CryoboxError(
    'payload_too_large',
    `${what} has ${Buffer.byteLength(text)} bytes; the kernel takes less than ${maxArgumentBytes}`,
    { hint: 'Write what is large to a file or to stdin.' },
  );
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
