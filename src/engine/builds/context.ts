import type { EngineContext } from '../boxes/context.js';

/** What a build has all along. */
export interface BuildContext {
  readonly ctx: EngineContext;
  readonly tenant: string;
  /** Name of the image that is built. */
  readonly name: string;
  readonly signal: AbortSignal;
  readonly noCache: boolean;
  readonly cpus: number | undefined;
  readonly memoryMiB: number;
  /** Told of the steps, and of what they write. */
  readonly log: BuildLog;
}

/** Who is told how a build goes on. */
export interface BuildLog {
  /** A step begins, or is taken from an earlier build. */
  step(text: string): void;
  /** A line that a step wrote. */
  output(line: string): void;
}
