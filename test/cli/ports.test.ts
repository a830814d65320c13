import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort } from '../image/support/registry.js';
import { mustRun, runCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);

beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  await cli('rm', '--force', 'web');
  await cli('engine', 'stop');
  await home[Symbol.asyncDispose]();
});

it('lead to a web server in a box, also when it is paused', async () => {
  const port = await freePort();
  const server = ['python3', '-m', 'http.server', '8000'];
  await must('run', '-d', '--name', 'web', '-p', `${port}:8000`, 'debian-python', '--', ...server);
  const get = async (at = port) => await (await fetch(`http://127.0.0.1:${at}/`)).text();
  // The program needs a moment to listen; until then connections to it are reset.
  await expect.poll(() => get().catch(() => ''), { timeout: 30_000 }).toContain('Directory listing');
  expect(await must('port', 'web')).toBe(`8000/tcp -> 127.0.0.1:${port}\n`);
  expect(await must('port', 'web', '8000/tcp')).toBe(`8000/tcp -> 127.0.0.1:${port}\n`);
  await must('pause', 'web');
  expect(await get()).toContain('Directory listing');

  const taken = await cli('run', '-p', `${port}:80`, 'tiny', 'true');
  expect([taken.exitCode, taken.stdout]).toEqual([125, '']);
  expect(taken.stderr).toContain(`port 127.0.0.1:${port} of the host is in use\nhint: `);
  const changed = await must('port', 'web', '--publish', '8000', '--unpublish', String(port));
  const [, other] = /^8000\/tcp -> 127\.0\.0\.1:(\d+)\n$/.exec(changed) ?? [];
  expect(await get(Number(other))).toContain('Directory listing');
  expect((await cli('port', 'web', '9')).stderr).toContain('is not published');
});
