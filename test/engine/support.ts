import { afterAll, beforeAll } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine, type EngineOptions } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';

/** An engine over a home of its own, open for the tests of a file; boxes that are left are removed at the end. */
export class TestEngine {
  #engine: Engine | undefined;
  #home: TestHome | undefined;

  constructor(options: Omit<EngineOptions, 'home'> = { poolSize: 0 }) {
    beforeAll(async () => {
      this.#home = await newHome();
      this.#engine = await Engine.open({ ...options, home: this.#home.path });
    });
    afterAll(async () => {
      for (const box of (await this.#engine?.runtime().list()) ?? []) {
        await this.runtime.remove(box.id, { force: true });
      }
      await this.#engine?.close();
      await this.#home?.[Symbol.asyncDispose]();
    });
  }

  get runtime(): Runtime {
    if (!this.#engine) throw new Error('the engine is not open');
    return this.#engine.runtime();
  }

  get home(): string {
    if (!this.#home) throw new Error('the home is not there');
    return this.#home.path;
  }
}

/** What a shell in a box writes; throws when its exit code is not 0. */
export async function output(box: Box, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await box.exec(['sh', '-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
}

/** What a call failed with: its code, and its text. */
export async function failureOf(
  call: Promise<unknown>,
): Promise<{ code: string; message: string; hint: string }> {
  try {
    await call;
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint: string };
    return { code, message, hint };
  }
  throw new Error('the call did not fail');
}

/** Resolves when a box is said to have changed so, with `performance.now()`; listens from now on. */
export async function changed(runtime: Runtime, boxId: string, change: string): Promise<number> {
  for await (const event of runtime.events()) {
    if (event.id === boxId && event.change === change) return performance.now();
  }
  return Number.NaN;
}
