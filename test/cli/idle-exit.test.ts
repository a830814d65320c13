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
  const status = async () =>
    JSON.parse((await runCli(home.path, 'engine', 'status', '--format', 'json')).stdout);
  // The command starts the engine, so that the box runs before the engine could count as idle.
  const env = { CRYOBOX_IDLE_EXIT: '1500ms' };
  expect(
    (await spawnCli(home.path, ['run', '-d', '--name', 'busy', 'tiny', 'sleep', '600'], { env })).exitCode,
  ).toBe(0);
  const { pid } = await status();
  // While a box runs it stays, for longer than its idle time.
  await new Promise((resolve) => setTimeout(resolve, 3000));
  expect(await status()).toMatchObject({ pid, running: true });
  await mustRun(home.path, 'rm', '-f', 'busy');
  await expect.poll(async () => (await status()).running, { timeout: 50_000, interval: 3000 }).toBe(false);
}, 120_000);
