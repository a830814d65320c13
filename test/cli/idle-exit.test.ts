import { afterAll, beforeAll, expect, it } from 'vitest';
import { mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  await runCli(home.path, 'engine', 'stop');
  await home[Symbol.asyncDispose]();
});

it('an engine in the background ends when nothing runs and nobody asks, if it is told to', async () => {
  const env = { CRYOBOX_IDLE_EXIT: '1500ms' };
  const engine = spawnCli(home.path, ['engine', 'run'], { env });
  await expect
    .poll(async () => (await runCli(home.path, 'engine', 'status')).exitCode, { timeout: 20_000 })
    .toBe(0);
  await mustRun(home.path, 'run', '-d', '--name', 'busy', 'tiny', 'sleep', '60');
  const running = await mustRun(home.path, 'ls', '--format', 'json');
  expect(running).toContain('busy');
  // While a box runs it stays.
  const early = await Promise.race([
    engine.then(() => 'ended'),
    new Promise((resolve) => setTimeout(() => resolve('still there'), 3000)),
  ]);
  expect(early).toBe('still there');
  await mustRun(home.path, 'rm', '-f', 'busy');
  expect((await engine).exitCode).toBe(0);
});
