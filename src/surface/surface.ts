import type { Box, ForkResult, Runtime } from '../api/index.js';
import { checkOptions } from '../base/check-options.js';
import { CryoboxError, isCryoboxError, wrapHostError } from '../errors.js';
import { type Rule, rules } from './rules.js';

/** Properties that are surfaces of their own. */
const parts: Readonly<Record<string, readonly string[]>> = {
  runtime: ['images', 'templates', 'volumes'],
  box: ['files', 'executions', 'snapshot', 'network', 'ports', 'previews', 'secrets'],
};

/** What a runtime remembers of itself. */
interface Life {
  closed: boolean;
}

/**
 * A runtime as users have it, the same for every way to an engine: options are checked by name, only
 * {@link CryoboxError}s leave it beside what a caller's own bytes fail with, and one of a cancelled call has the signal's reason as its `cause`.
 */
export function surfaceOf(runtime: Runtime): Runtime {
  return dressed('runtime', runtime, { closed: false });
}

function dressed<T extends object>(kind: string, target: T, life: Life): T {
  const ofKind = rules[kind] ?? {};
  const known = new Map<string | symbol, unknown>();
  return new Proxy(target, {
    get(_, name) {
      if (known.has(name)) return known.get(name);
      // With the target as receiver: private members are the target's.
      const value: unknown = Reflect.get(target, name, target);
      const made = dressMember(value, name);
      if (made !== value) known.set(name, made);
      return made;
    },
  });

  function dressMember(value: unknown, name: string | symbol): unknown {
    if (typeof value === 'function') {
      const method = (...args: unknown[]): unknown => Reflect.apply(value, target, args);
      if (typeof name === 'symbol') return method;
      return dressMethod(kind, name, ofKind[name], method, life);
    }
    const isPart = typeof name === 'string' && parts[kind]?.includes(name);
    return isPart && typeof value === 'object' && value !== null ? dressed(name, value, life) : value;
  }
}

/** Calls that read what their caller gives: what that fails with is the caller's own error, and is thrown as it is. */
const takesBytes = new Set(['files.write', 'files.unpack', 'runtime.import', 'box.exec', 'images.build']);

type Method = (...args: unknown[]) => unknown;

function dressMethod(kind: string, name: string, rule: Rule | undefined, method: Method, life: Life): Method {
  const what = `${kind}.${name}`;
  return (...args) => {
    const signal = rule === undefined ? undefined : signalOf(args[rule.at]);
    const fail = (error: unknown): never => {
      throw takesBytes.has(what) && !isCryoboxError(error) ? error : told(what, error, signal);
    };
    // What gives no promise fails at once, as it did.
    if (name === 'events') {
      check(what, rule, args, life);
      return method(...args);
    }
    const work = async (): Promise<unknown> => {
      if (kind === 'runtime' && name === 'close') life.closed = true;
      else check(what, rule, args, life);
      return dressResult(name, await method(...args), life);
    };
    return work().catch(fail);
  };
}

function check(what: string, rule: Rule | undefined, args: readonly unknown[], life: Life): void {
  if (life.closed) {
    throw new CryoboxError('invalid_state', `${what}: the runtime was closed`, {
      hint: 'Open another one by Cryobox.local() or Cryobox.connect().',
    });
  }
  if (!rule) return;
  checkFirst(what, rule, args[0]);
  const options = args[rule.at];
  if (rule.given && options === undefined) {
    throw new CryoboxError('invalid_argument', `${what}: options are missing`, {
      hint: `Write an object with any of ${Object.keys(rule.names).join(', ')}.`,
    });
  }
  checkOptions(what, options, rule.names);
}

/** What stands before the options is a name, a path, a port, bytes: each call says itself what is wrong with a value. */
function checkFirst(what: string, { at, given }: Rule, first: unknown): void {
  if (at === 0 || given || what === 'box.exec' || what === 'box.startExec') return;
  const isFine =
    what === 'box.clone'
      ? first === undefined || typeof first === 'string'
      : (first ?? undefined) !== undefined;
  if (isFine) return;
  const got = first === undefined ? 'it is missing' : `got ${JSON.stringify(first)}`;
  throw new CryoboxError('invalid_argument', `${what}: the first argument is wrong: ${got}`);
}

function signalOf(options: unknown): AbortSignal | undefined {
  const signal =
    typeof options === 'object' && options !== null && 'signal' in options ? options.signal : undefined;
  return signal instanceof AbortSignal ? signal : undefined;
}

/** The error that a caller gets. One of a cancelled call has the signal's reason as its cause, and the name of that. */
function told(what: string, error: unknown, signal: AbortSignal | undefined): CryoboxError {
  if (!isCryoboxError(error)) {
    return wrapHostError(error, what, 'internal');
  }
  if (error.code !== 'cancelled' || !signal?.aborted) return error;
  const { message, hint, details } = error;
  const reason: unknown = signal.reason;
  const cancelled = new CryoboxError('cancelled', message, { cause: reason, hint, details });
  const isTime = reason instanceof Error && reason.name === 'TimeoutError';
  // What code that retries or gives up looks at (the DOM's AbortSignal).
  return Object.defineProperty(cancelled, 'name', { value: isTime ? 'TimeoutError' : 'AbortError' });
}

const givesBox = new Set(['create', 'get', 'import', 'adopt', 'clone']);
const givesExecution = new Set(['startExec', 'attach']);

/** Boxes and executions that a call gives are surfaces too. */
function dressResult(name: string, result: unknown, life: Life): unknown {
  if (isBox(result) && givesBox.has(name)) return dressed('box', result, life);
  if (name === 'getOrCreate') {
    const { box, created } = result as { box: Box; created: boolean };
    return { box: dressed('box', box, life), created };
  }
  if (name === 'fork') {
    return (result as ForkResult[]).map((it) => ('box' in it ? { box: dressed('box', it.box, life) } : it));
  }
  if (givesExecution.has(name)) return dressed('execution', result as object, life);
  return result;
}

function isBox(result: unknown): result is Box {
  return typeof result === 'object' && result !== null && 'startExec' in result;
}
