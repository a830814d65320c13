import type { Box, CallOptions, Runtime } from '../api/index.js';
import { rules } from '../surface/rules.js';
import { EngineBox } from './boxes/box.js';
import type { CoreContext } from './core/context.js';
import { follow, isByteSource } from './core/operation.js';
import type { Work } from './core/work.js';
import { type Kinds, kindsOfBox, kindsOfRuntime } from './operation-kinds.js';

interface Facts {
  readonly ctx: Pick<CoreContext, 'logger' | 'work'>;
  readonly tenant: string;
  readonly box?: string;
}

/**
 * A runtime whose operations, and those of its boxes, are told in the log and as spans, and waited for when the engine
 * closes: none begins then, and what the host refuses is told by a typed error.
 */
export function followedRuntime(runtime: Runtime, ctx: Facts['ctx'], tenant: string): Runtime {
  return followed(runtime, 'runtime', kindsOfRuntime, { ctx, tenant });
}

function followed<T extends object>(target: T, name: string, kinds: Kinds<T>, facts: Facts): T {
  return new Proxy(target, {
    get: (object, key) => {
      const value: unknown = Reflect.get(object, key, object);
      if (typeof value === 'function') {
        const method = value.bind(object) as Method;
        const kind: unknown = Reflect.get(kinds, key);
        if (kind !== 'change' && kind !== 'use') return method;
        const { ctx, ...about } = facts;
        const operation = `${name}.${String(key)}`;
        // Where the options of what changes something are: their signal is raised when the engine closes.
        const at = kind === 'change' ? rules[name]?.[String(key)]?.at : undefined;
        return async (...args: unknown[]) => {
          const run = (): Promise<unknown> => runWork(ctx.work, at, method, args);
          return boxesIn(await follow(ctx.logger, { ...about, operation }, run, boxIdOf), facts);
        };
      }
      const part: unknown = Reflect.get(kinds, key);
      if (typeof part === 'object')
        return followed(value as object, String(key), part as Kinds<object>, facts);
      return value;
    },
  });
}

type Method = (...args: unknown[]) => unknown;

async function runWork(
  work: Work,
  at: number | undefined,
  method: Method,
  args: unknown[],
): Promise<unknown> {
  const options = at === undefined ? undefined : ((args[at] ?? {}) as CallOptions);
  const run = async (signal: AbortSignal): Promise<unknown> => {
    if (at === undefined) return await method(...args);
    const before = Array.from({ length: at }, (_, i) => args[i]);
    return await method(...before, { ...options, signal });
  };
  const result = await work.run(at === undefined ? 'use' : 'change', run, options?.signal);
  if (isByteSource(result)) return work.stream(result);
  const toldOf = (each: unknown): unknown =>
    isFailure(each) ? { ...each, error: work.told(each.error, options?.signal) } : each;
  return Array.isArray(result) ? result.map(toldOf) : result;
}

/** One of several results that failed alone (ForkResult). */
function isFailure(result: unknown): result is { readonly error: Error } {
  return typeof result === 'object' && result !== null && 'error' in result && result.error instanceof Error;
}

const followedBox = (box: Box, facts: Facts): Box =>
  followed(box, 'box', kindsOfBox, { ...facts, box: box.id });

/** The box that an operation made or found. */
function boxIdOf(result: unknown): string | undefined {
  if (result instanceof EngineBox) return result.id;
  const isFound = typeof result === 'object' && result !== null && 'box' in result;
  return isFound && result.box instanceof EngineBox ? result.box.id : undefined;
}

/** What an operation gave, its boxes followed. */
function boxesIn(result: unknown, facts: Facts): unknown {
  if (result instanceof EngineBox) return followedBox(result, facts);
  if (Array.isArray(result)) return result.map((each: unknown) => boxesIn(each, facts));
  if (typeof result === 'object' && result !== null && 'box' in result && result.box instanceof EngineBox) {
    return { ...result, box: followedBox(result.box, facts) };
  }
  return result;
}
